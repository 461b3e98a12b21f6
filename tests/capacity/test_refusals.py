"""What would wait for ever is refused with the setting to change, and nothing else is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.capacity import refusals
from dcsp.capacity.resources import Node, Resources
from dcsp.config import ClusterSettings
from dcsp.config.file import parse_config
from dcsp.errors import ClusterError, DcspError
from dcsp.run.plan import draft_plan

NODES = st.lists(
    st.builds(
        Node,
        cpus=st.integers(0, 64).map(float),
        gpus=st.sampled_from([0.0, 0.0, 1.0, 4.0, 8.0]),
    ),
    min_size=1,
    max_size=6,
)


def cluster(*nodes: Node) -> Resources:
    """A cluster of nodes."""
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return Resources(cpus, gpus, len(nodes), tuple(nodes))


PLAN = draft_plan(
    parse_config(
        {
            "store": "s",
            "corpus": {"kind": "scenes"},
            "network": {"weights": "random"},
            "cues": {"method": "affinity", "affinity": {"train": {"batch": 8}}},
        }
    )
)
"""Batches of 10, and one of 8."""


def check(resources: Resources, *, trains: bool = True, **settings: Any) -> None:
    plan = PLAN if trains else None
    refusals.check(resources, ClusterSettings(**settings), mines=True, trainings=plan)


@pytest.mark.parametrize(
    ("nodes", "settings", "message"),
    [
        ([Node(4)], {"actors": 4}, r"cluster\.actors=4 would take all 4 CPUs .* set it to 3 or"),
        ([Node(2), Node(2)], {"actors": 9}, r"cluster\.actors=9 .* set it to 3 or less"),
        ([Node(4)], {"train_cpus": 5}, r"more than the cluster's 4 CPUs.*cluster\.train_cpus"),
        ([Node(2)] * 3, {"train_cpus": 3}, r"nodes hold 0 \(3 of 2 CPUs\).*cluster\.train_cpus"),
        ([Node(3), Node(3)], {"train_cpus": 2, "train_workers": 3}, r"hold 2 \(2 of 3 CPUs\)"),
        ([Node(8, 1)], {"train_workers": 2}, r"2 training workers want a GPU each.*has 1"),
        ([Node(32, 2), Node(32)], {"actors": 2, "train_workers": 11}, r"train_workers"),
        ([Node(8)], {"use_gpu": True}, r"cluster\.use_gpu is true and the cluster has no GPU"),
        ([Node(0.5)] * 8, {}, r"No node of the cluster has a whole CPU \(8 of 0\.5 CPUs\)"),
    ],
)
def test_what_would_wait_for_ever_is_refused(
    nodes: list[Node], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ClusterError, match=message) as told:
        check(cluster(*nodes), **settings)
    assert "\n" not in str(told.value)


def test_more_gpu_actors_than_their_nodes_have_cpus_for_are_refused() -> None:
    with pytest.raises(ClusterError, match=r"nodes hold 0 \(1 of 0 CPUs and 4 GPUs, 1 of 32 CPUs"):
        check(cluster(Node(0, 4), Node(32)), trains=False)
    check(cluster(Node(2, 8), Node(32)), trains=False)  # a quarter of a CPU each


@pytest.mark.parametrize(
    "nodes",
    [
        [Node(1)],
        [Node(4)],
        [Node(1), Node(2), Node(2)],
        [Node(1)] * 4,
        [Node(2), Node(16, 1), Node(16, 1)],
        [Node(4, 4)],
        [Node(96, 8)],
    ],
)
def test_default_settings_suit_every_cluster(nodes: list[Node]) -> None:
    check(cluster(*nodes))


@given(NODES, st.none() | st.integers(1, 40), st.none() | st.integers(1, 10))
def test_what_is_not_refused_has_a_place(
    nodes: list[Node], actors: int | None, workers: int | None
) -> None:
    resources, settings = cluster(*nodes), ClusterSettings(actors=actors, train_workers=workers)
    try:
        refusals.check(resources, settings, mines=True, trainings=PLAN)
    except DcspError as error:
        assert re.search(r"cluster\.\w+|add nodes|join nodes", str(error))
        return
    number = resources.mining_actors(settings, parts=10**6)
    assert placed(nodes, number, **resources.actor_options(number))
    trainers, cpus = resources.training_workers(settings), resources.training_cpus(settings)
    gpus = {"num_gpus": 1.0} if resources.gpus else {}
    assert placed(nodes, trainers, num_cpus=cpus, **gpus)


def placed(nodes: list[Node], workers: int, num_cpus: float, num_gpus: float = 0.0) -> bool:
    """Whether workers, one after the other, find a node that has as much left."""
    left = [[node.cpus, node.gpus] for node in nodes]
    for _ in range(workers):
        free = [n for n in left if n[0] >= num_cpus - 1e-6 and n[1] >= num_gpus - 1e-6]
        if not free:
            return False
        free[0][0] -= num_cpus
        free[0][1] -= num_gpus
    return True


def test_a_job_that_does_not_train_is_not_refused_for_its_training() -> None:
    check(cluster(Node(4)), trains=False, train_workers=9)


def test_every_training_of_the_plan_has_an_image_for_each_worker() -> None:
    """With 10 GPUs the FCAN's batch of 10 is shared; the affinity network's of 8 cannot be."""
    check(cluster(Node(64, 8)))
    message = r"cues\.affinity\.train\.batch=8 images .* by 10 workers of the training affinity: "
    with pytest.raises(DcspError, match=message):
        check(cluster(Node(64, 10)))
    with pytest.raises(DcspError, match=r"fcan\.batch=10 images .* 12 workers.*train_workers"):
        check(cluster(Node(64)), train_workers=12)


def test_a_part_larger_than_an_object_store_is_refused() -> None:
    small = cluster(Node(4, object_store=2**30), Node(4, object_store=2**28))
    refusals.check_parts(small, 2**28)
    with pytest.raises(
        ClusterError, match=r"has 300\.0 MiB, .* 256\.0 MiB: .*lower corpus\.part_rows"
    ):
        refusals.check_parts(small, 300 * 2**20)
    refusals.check_parts(cluster(Node(4)), 2**60)  # nobody knows


def test_models_that_do_not_fit_the_memory_are_refused() -> None:
    nodes = cluster(Node(8, memory=8 * 2**30), Node(8, memory=4 * 2**30))

    def ask(workers: int, gib: float) -> None:
        refusals.check_memory(nodes, "saliency", workers, gib * 2**30, "cluster.actors")

    ask(6, 2)
    with pytest.raises(ClusterError, match=r"saliency: 7 .* 2\.0 GiB .*set cluster\.actors to 6"):
        ask(7, 2)
    with pytest.raises(ClusterError, match=r"1 process.* 9\.0 GiB .*add nodes with more"):
        ask(1, 9)
    refusals.check_memory(cluster(Node(8)), "saliency", 99, 2**40, "cluster.actors")
