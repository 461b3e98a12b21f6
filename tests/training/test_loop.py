"""The trainer: gradients, optimiser settings, resume, averaging, failures."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dcsp.config import PrecisionSettings, TrainSettings
from dcsp.errors import StoreError, TrainingError
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.training.loop import state_from_bytes, state_to_bytes
from tests.training.tiny import tiny_batch, tiny_network, trainer_of

FULL = PrecisionSettings(autocast="fp32", channels_last=False)
FAST = PrecisionSettings()


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings(**{"steps": 6, "batch": 4, "crop": 32, **changes})


def weights(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def gradients(network: SegmentationNetwork, **changes: Any) -> dict[str, Tensor]:
    objective = changes.pop("objective", "joint")
    trainer = trainer_of(network, settings(**changes), objective, FULL)
    trainer.step(tiny_batch(4))
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def test_the_gradients_of_both_losses_reach_the_backbone() -> None:
    both = gradients(tiny_network(), objective="joint")
    classification = gradients(tiny_network(), objective="fcan")
    segmentation = gradients(tiny_network(), objective="joint", classification_weight=0.0)
    for name in both:
        assert torch.allclose(both[name], classification[name] + segmentation[name], atol=1e-6)
    for part in (classification, segmentation):
        assert part["backbone.conv1.weight"].abs().max() > 0
        assert part["aspp.0.weight"].abs().max() > 0
    assert classification["fcan.weight"].abs().max() > 0


def test_momentum_and_weight_decay_are_in_their_own_slots() -> None:
    network = tiny_network()
    chosen = settings(momentum=0.7, weight_decay=0.03, learning_rate=0.01, power=0.0)
    trainer = trainer_of(network, chosen, "joint", FULL)
    for group in trainer.optimizer.param_groups:
        assert (group["momentum"], group["weight_decay"]) == (0.7, 0.03)
    parameter = network.backbone.get_parameter("conv1.weight")
    velocity = torch.zeros_like(parameter)
    for seed in range(3):
        before = parameter.detach().clone()
        trainer.step(tiny_batch(4, seed))
        assert parameter.grad is not None
        velocity = 0.7 * velocity + parameter.grad + 0.03 * before
        assert torch.allclose(parameter.detach(), before - 0.01 * velocity, atol=1e-7)


def test_rates_are_the_papers_multiples_on_the_poly_schedule() -> None:
    trainer = trainer_of(tiny_network(), settings(steps=2), "joint", FULL)
    first = trainer.step(tiny_batch(4))
    rates = sorted(group["lr"] for group in trainer.optimizer.param_groups)
    assert rates == pytest.approx([1e-3, 1e-2, 2e-2])
    second = trainer.step(tiny_batch(4))
    rates = sorted(group["lr"] for group in trainer.optimizer.param_groups)
    assert rates == pytest.approx([r * 0.5**0.9 for r in (1e-3, 1e-2, 2e-2)])
    assert [first["learning_rate"], second["learning_rate"]] == pytest.approx(
        [1e-3, 1e-3 * 0.5**0.9]
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", [FULL, FAST])
def test_it_learns_one_batch(optimizer: str, precision: PrecisionSettings) -> None:
    chosen = settings(steps=60, optimizer=optimizer, learning_rate=2e-3, saliency_weight=1.0)
    trainer = trainer_of(tiny_network(), chosen, "joint", precision)
    losses = [trainer.step(tiny_batch(4))["loss"] for _ in range(60)]
    assert trainer.finished
    assert losses[-1] < 0.85 * losses[0]


def test_half_precision_starts_at_the_same_loss() -> None:
    full, fast = (
        trainer_of(tiny_network(), settings(), "joint", precision).step(tiny_batch(4))
        for precision in (FULL, FAST)
    )
    assert fast == pytest.approx(full, rel=2e-2)


def test_a_frozen_backbone_does_not_change() -> None:
    network = tiny_network()
    before = weights(network.backbone)
    trainer = trainer_of(network, settings(train_backbone=False), "fcan", FULL)
    figures = trainer.step(tiny_batch(4))
    assert same(before, weights(network.backbone))
    assert network.fcan.weight.grad is not None
    assert figures["learning_rate"] == pytest.approx(1e-3)


def test_batchnorm_statistics_stay_frozen() -> None:
    network = tiny_network()
    before = network.backbone.get_buffer("bn1.running_mean").clone()
    trainer = trainer_of(network, settings(), "joint", FULL)
    trainer.step(tiny_batch(4))
    assert torch.equal(before, network.backbone.get_buffer("bn1.running_mean"))


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"optimizer": "adamw"}])
def test_a_resumed_run_repeats_an_unbroken_one(changes: dict[str, Any]) -> None:
    unbroken = trainer_of(tiny_network(), settings(**changes), "joint", FAST)
    figures = [unbroken.step(tiny_batch(4, step)) for step in range(6)]
    first = trainer_of(tiny_network(), settings(**changes), "joint", FAST)
    for step in range(3):
        first.step(tiny_batch(4, step))
    data = state_to_bytes(first.state_dict(), "fp")
    resumed = trainer_of(tiny_network(seed=9), settings(**changes), "joint", FAST)
    resumed.load_state_dict(state_from_bytes(data, "fp"))
    assert resumed.step_number == 3 and not resumed.finished
    assert [resumed.step(tiny_batch(4, step)) for step in range(3, 6)] == figures[3:]
    assert same(weights(unbroken.trained_network()), weights(resumed.trained_network()))


def test_the_moving_average_is_what_is_kept() -> None:
    network = tiny_network()
    trainer = trainer_of(network, settings(ema_decay=0.5), "joint", FULL)
    expected = network.fcan.bias.detach().clone()
    for step in range(1, 6):
        trainer.step(tiny_batch(4, step))
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * network.fcan.bias.detach()
    kept = trainer.trained_network()
    assert torch.allclose(kept.fcan.bias, expected, atol=1e-7)
    assert not torch.equal(kept.fcan.bias, network.fcan.bias)
    assert not kept.training and kept is not network


def test_arrays_that_cannot_be_written_are_taken_without_a_warning() -> None:
    batch = {name: tensor.numpy() for name, tensor in tiny_batch(4).items()}
    for array in batch.values():
        array.flags.writeable = False
    trainer = trainer_of(tiny_network(), settings(), "joint", FULL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = trainer.step(batch)
    assert figures == trainer_of(tiny_network(), settings(), "joint", FULL).step(tiny_batch(4))


def test_a_step_names_its_figures() -> None:
    trainer = trainer_of(tiny_network(), settings(saliency_weight=2.0), "joint", FULL)
    assert set(trainer.columns) == {"image", "tags", "cue", "saliency", "valid"}
    figures = trainer.step(tiny_batch(4))
    assert list(figures) == [
        "step",
        "learning_rate",
        "loss",
        "classification",
        "segmentation",
        "saliency",
    ]
    assert figures["step"] == 1
    assert trainer.flush() == {}


def test_a_diverged_loss_names_step_and_settings() -> None:
    network = tiny_network()
    trainer = trainer_of(network, settings(learning_rate=0.5), "joint", FULL)
    trainer.step(tiny_batch(4))
    with torch.no_grad():
        network.fcan.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"nan at step 2 of 6.*learning_rate=0\.5.*lower joint"):
        trainer.step(tiny_batch(4))


def test_a_step_past_the_end_is_refused() -> None:
    trainer = trainer_of(tiny_network(), settings(steps=1), "fcan", FULL)
    trainer.step(tiny_batch(4))
    with pytest.raises(RuntimeError, match=r"check Trainer\.finished"):
        trainer.step(tiny_batch(4))


@pytest.mark.parametrize(
    ("changes", "objective"),
    [({"steps": 7}, "joint"), ({}, "fcan"), ({"ema_decay": 0.9}, "joint")],
)
def test_a_state_of_another_stage_is_refused(changes: dict[str, Any], objective: Any) -> None:
    state = trainer_of(tiny_network(), settings(), "joint", FULL).state_dict()
    with pytest.raises(StoreError, match="delete that checkpoint"):
        trainer_of(tiny_network(), settings(**changes), objective, FULL).load_state_dict(state)


def test_a_state_of_another_network_is_refused() -> None:
    state = trainer_of(tiny_network(), settings(), "joint", FULL).state_dict()
    state["network"] = {"other.weight": torch.zeros(1)}
    with pytest.raises(StoreError, match="does not fit this network"):
        trainer_of(tiny_network(), settings(), "joint", FULL).load_state_dict(state)


@pytest.mark.parametrize("data", [b"", b"no state", state_to_bytes({"a": 1}, "fp")[:-40]])
def test_a_damaged_state_is_refused(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"cannot be read|is damaged"):
        state_from_bytes(data, "fp")


def test_a_state_that_would_run_code_is_refused() -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (print, ("executed",))

    with pytest.raises(StoreError, match="cannot be read"):
        state_from_bytes(state_to_bytes({"a": Harmful()}, "fp"), "fp")


def test_samples_as_numpy_and_as_tensors_are_the_same() -> None:
    as_numpy = {name: np.asarray(tensor) for name, tensor in tiny_batch(4).items()}
    one, other = (
        trainer_of(tiny_network(), settings(), "fcan", FULL).step(batch)
        for batch in (tiny_batch(4), as_numpy)
    )
    assert one == other
