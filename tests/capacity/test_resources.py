"""Who gets which CPUs and GPUs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.capacity.resources import Resources
from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError

CPUS = st.integers(1, 512).map(float)
GPUS = st.integers(0, 64).map(float)


@given(CPUS, GPUS, st.none() | st.integers(1, 100), st.integers(1, 1000))
def test_actors_fit_the_cpus_and_the_gpus(
    cpus: float, gpus: float, actors: int | None, parts: int
) -> None:
    resources = Resources(cpus, gpus, 1)
    number = resources.mining_actors(ClusterSettings(actors=actors), parts)
    options = resources.actor_options(number)
    assert 1 <= number <= parts
    assert number * options["num_cpus"] <= cpus or number > 100 * cpus
    assert resources.reading_tasks(number) >= number
    assert resources.finishing_tasks(number) >= 2
    if gpus:
        per_gpu = round(1 / options["num_gpus"])
        assert number <= per_gpu * gpus, "no actor waits for a GPU for ever"
    else:
        assert "num_gpus" not in options


@given(CPUS, GPUS)
def test_a_training_of_default_settings_fits_or_is_refused(cpus: float, gpus: float) -> None:
    resources = Resources(cpus, gpus, 1)
    settings = ClusterSettings()
    workers, share = resources.training_workers(settings), resources.training_cpus(settings)
    try:
        resources.check_training_fits(settings)
    except ClusterError:
        assert workers * 0.25 > cpus
    else:
        assert workers * share <= cpus


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_cpus": 5.0}, r"1 training workers of 5 CPUs want more than the cluster's 4 CPUs"),
        ({"train_workers": 3}, r"3 training workers want a GPU each, the cluster has 1"),
    ],
)
def test_trainings_that_would_wait_for_ever_are_refused(
    settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ClusterError, match=message):
        Resources(4, 1, 1).check_training_fits(ClusterSettings(**settings))


def test_one_node_of_a_laptop_keeps_its_cores_for_models() -> None:
    laptop = Resources(cpus=4, gpus=0, nodes=1)  # two cores and the spare ones
    assert laptop.mining_actors(ClusterSettings(), parts=100) == 2
    assert laptop.actor_options(2) == {"num_cpus": 1.0}
    assert laptop.training_cpus(ClusterSettings()) == 2.0
