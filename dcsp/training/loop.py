"""The training loop's one step and its resumable state (paper 4.3 and 5.1; method 1.7).

A :class:`Trainer` is fed batches by its caller and never reads data. The caller initialises
``torch.distributed`` where there are several ranks, and decides when to save.
"""

from __future__ import annotations

import copy
import hashlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dcsp.config import PrecisionSettings, TrainSettings
from dcsp.errors import StoreError, TrainingError
from dcsp.networks.model import Model, parameter_groups
from dcsp.networks.precision import autocast, keep_float32
from dcsp.training.objective import Losses, Objective
from dcsp.training.schedule import learning_rates
from dcsp.training.stream import Rank, stable_seed

STATE_FORMAT = 2
"""Version of what :meth:`Trainer.state_dict` gives."""
_MARK = b"dcsp-state-1"
"""What the bytes of a state begin with; then a sha256, then what torch wrote."""
_HEAD = len(_MARK) + hashlib.sha256().digest_size


class Trainer:
    """Takes optimiser steps on one network until its schedule ends.

    All ranks take the same steps, each on its share of the global batch; the losses it reports are
    those of the global batch. BatchNorm statistics stay frozen, which is the network's own doing.
    Random layers draw from a seed of (seed, step, rank), so a resumed run repeats an unbroken one.

    Args:
        network: Trained in place; moved to ``device``.
        settings: Of this training stage.
        objective: What is minimised.
        block: Name of its block of settings, such as ``joint``; a saved state belongs to it.
        precision: Autocast and memory layout.
        device: A torch device, such as ``cpu`` or ``cuda:0``.
        rank: Which process this is, of how many.
        seed: Of the random layers.
    """

    def __init__(
        self,
        network: Model,
        settings: TrainSettings,
        objective: Objective,
        precision: PrecisionSettings,
        block: str,
        device: str | torch.device = "cpu",
        rank: Rank = Rank(),  # noqa: B008  # immutable
        seed: int = 0,
    ) -> None:
        self.step_number = 0
        self.block = block
        self.settings = settings
        self.device = torch.device(device)
        self._precision = precision
        self._rank = rank.number
        self._seed = seed
        self._objective = objective
        keep_float32()
        self.network = network.to(self.device).train()
        if precision.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(parameter_groups(network, settings), settings)
        self._base_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._model = _distribute(self.network, self.device) if rank.world > 1 else self.network
        self._ema = _Average(self.network, settings.ema_decay) if settings.ema_decay else None
        self._readings = _Readings(("step", "learning_rate", *self._objective.names), self.device)

    @property
    def finished(self) -> bool:
        """Whether the schedule's last step has been taken."""
        return self.step_number >= self.settings.steps

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the tensors that :meth:`step` needs."""
        return ("image", *self._objective.columns)

    def step(self, batch: Mapping[str, Tensor | NDArray[Any]]) -> dict[str, float]:
        """One optimiser step on this rank's share of the global batch.

        Args:
            batch: What :func:`dcsp.training.augment.make_samples` makes, as arrays or tensors;
                entries not in :attr:`columns` are not touched.

        Returns:
            ``step`` (from 1), ``learning_rate`` of the backbone, ``loss`` and each of its terms
            before weighting, over the global batch. On a GPU these are the figures of the step
            before, so that the CPU never waits for the GPU: empty at the first step, and complete
            after :meth:`flush`.

        Raises:
            TrainingError: The loss is no longer finite.
            RuntimeError: The schedule has ended.
        """
        if self.finished:
            raise RuntimeError(
                f"all {self.settings.steps} steps are taken: check Trainer.finished before step()"
            )
        rate = self._set_learning_rates()
        torch.manual_seed(stable_seed(self._seed, "layers", self.step_number, self._rank))
        tensors = {name: self._on_device(batch[name]) for name in self.columns}
        losses = self._losses(tensors)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step_number += 1
        if self._ema is not None:
            self._ema.update(self.network, self.step_number)
        return self._checked(self._readings.push((self.step_number, rate), losses.values))

    def flush(self) -> dict[str, float]:
        """Wait for the last step and return its figures; empty where they were returned already.

        Raises:
            TrainingError: The loss is no longer finite.
        """
        return self._checked(self._readings.flush())

    def trained_network(self) -> Model:
        """What the stage keeps: a copy on the CPU in eval mode, with the averaged weights if any.

        Raises:
            TrainingError: The last loss is not finite.
        """
        self.flush()
        kept = copy.deepcopy(self.network)
        if self._ema is not None:
            self._ema.copy_to(kept)
        return kept.to("cpu").eval()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on: plain containers, numbers and tensors on the device.

        Keys: ``format``, ``block``, ``step``, ``steps``, ``seed``, ``network``, ``optimizer``,
        ``average`` (the moving average, None without one). The schedule is a function of the step,
        and random numbers are functions of seed, step and rank.

        Raises:
            TrainingError: The last loss is not finite: such a state is never saved.
        """
        self.flush()
        return {
            "format": STATE_FORMAT,
            "block": self.block,
            "step": self.step_number,
            "steps": self.settings.steps,
            "seed": self._seed,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self._ema is None else self._ema.values,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same stage with the same settings, on any number of ranks.

        Raises:
            StoreError: The state is of another version, stage, schedule or network.
        """
        expected = (STATE_FORMAT, self.block, self.settings.steps, self._ema is not None)
        found = (
            state.get("format"),
            state.get("block"),
            state.get("steps"),
            state.get("average") is not None,
        )
        if found != expected:
            raise StoreError(
                f"The saved training state is of (format, stage, steps, averaged) = {found}, but "
                f"this run needs {expected}: delete that checkpoint or restore its settings."
            )
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self._ema is not None:
                self._ema.load(state["average"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise StoreError(
                f"The saved training state does not fit this network ({error}): delete that "
                "checkpoint or restore its settings."
            ) from error
        self.step_number = int(state["step"])
        self._seed = int(state["seed"])

    def _set_learning_rates(self) -> float:
        """Set the rate of every parameter group for this step; returns the backbone's."""
        backbone_rate, *rates = learning_rates(
            [self.settings.learning_rate, *self._base_rates],
            self.step_number,
            self.settings.steps,
            self.settings.power,
        )
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return backbone_rate

    def _on_device(self, array: Tensor | NDArray[Any]) -> Tensor:
        if isinstance(array, np.ndarray):
            array = torch.from_numpy(array if array.flags.writeable else array.copy())
        return array.to(self.device, non_blocking=True)

    def _losses(self, tensors: Mapping[str, Tensor]) -> Losses:
        image_BCHW = tensors["image"].permute(0, 3, 1, 2)
        if not self._precision.channels_last:
            image_BCHW = image_BCHW.contiguous()
        with autocast(self._precision, self.device):
            output = self._model(image_BCHW, *(tensors[n] for n in self._objective.inputs))
        return self._objective(output, tensors)

    def _checked(self, figures: dict[str, float]) -> dict[str, float]:
        if figures and not math.isfinite(figures["loss"]):
            raise TrainingError(
                f"The loss became {figures['loss']} at step {figures['step']:.0f} of "
                f"{self.settings.steps} of {self.block} training (optimizer="
                f"{self.settings.optimizer}, learning_rate={self.settings.learning_rate:g}, "
                f"head_multiplier={self.settings.head_multiplier:g}, autocast="
                f"{self._precision.autocast}): lower {self.block}.learning_rate or set "
                "precision.autocast=fp32."
            )
        return figures


def build_optimizer(groups: list[dict[str, Any]], settings: TrainSettings) -> torch.optim.Optimizer:
    """SGD with momentum (paper) or AdamW over the network's parameter groups.

    Fused: one pass over the parameters, 17 ms in place of 45 for ResNet-50 on two cores.

    Args:
        groups: As :func:`dcsp.networks.model.parameter_groups` gives, each with its ``lr``.
        settings: ``optimizer``, ``learning_rate``, ``momentum`` and ``weight_decay`` are used.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=True)
    momentum = settings.momentum
    return torch.optim.SGD(groups, lr=rate, momentum=momentum, weight_decay=decay, fused=True)


def state_to_bytes(state: Mapping[str, Any], training: str) -> bytes:
    """A training state as bytes, for one atomic write to a store.

    Args:
        state: What :meth:`Trainer.state_dict` gave.
        training: Fingerprint of the training, which alone can go on with it.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    data = buffer.getvalue()
    return _MARK + _state_digest(data, training) + data


def check_state(data: bytes, training: str) -> bytes:
    """What torch wrote of a state, compared with its digest: torch itself notices no bent byte.

    Args:
        data: From :func:`state_to_bytes`; a state of an earlier version has no digest and passes.
        training: Fingerprint of the training.

    Raises:
        StoreError: The bytes are damaged, or another training's.
    """
    if not data.startswith(_MARK):
        return data
    told, rest = data[len(_MARK) : _HEAD], data[_HEAD:]
    if told != _state_digest(rest, training):
        raise StoreError(
            f"The saved training state of {len(data)} bytes is damaged or of another training: "
            "delete that checkpoint."
        )
    return rest


def state_from_bytes(data: bytes, training: str) -> dict[str, Any]:
    """The training state that :func:`state_to_bytes` wrote, on the CPU; runs no code from ``data``.

    Raises:
        StoreError: The bytes are damaged, of another training, or hold something else.
    """
    try:
        kept = io.BytesIO(check_state(data, training))
        state = torch.load(kept, map_location="cpu", weights_only=True)
    except StoreError:
        raise
    except Exception as error:  # torch raises many kinds on damaged files
        raise StoreError(
            f"The saved training state of {len(data)} bytes cannot be read "
            f"({type(error).__name__}): delete that checkpoint."
        ) from error
    if not isinstance(state, dict):
        raise StoreError("The saved training state is no mapping: delete that checkpoint.")
    return state


def _state_digest(data: bytes, training: str) -> bytes:
    return hashlib.sha256(training.encode() + data).digest()


class _Average:
    """Exponential moving average of the parameters that learn, warmed up over the first steps."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.values = {name: p.detach().clone() for name, p in _learning(network)}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self._decay, step / (step + 9))  # of an early average, the start counts little
        parameters = [p.detach() for _, p in _learning(network)]
        torch._foreach_lerp_(list(self.values.values()), parameters, 1.0 - decay)

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        for name, parameter in _learning(network):
            parameter.copy_(self.values[name])

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        for name, value in self.values.items():
            value.copy_(values[name])


class _Readings:
    """Figures of a step as floats: at once on a CPU, one step later on a GPU."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self._names = names
        self._lags = device.type == "cuda"
        self._pending: tuple[tuple[float, ...], Tensor, torch.cuda.Event] | None = None

    def push(self, known: tuple[float, ...], values: Tensor) -> dict[str, float]:
        if not self._lags:
            return self._named(known, values)
        before = self.flush()
        copied = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        copied.copy_(values, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending = (known, copied, event)
        return before

    def flush(self) -> dict[str, float]:
        if self._pending is None:
            return {}
        known, values, event = self._pending
        self._pending = None
        event.synchronize()
        return self._named(known, values)

    def _named(self, known: tuple[float, ...], values: Tensor) -> dict[str, float]:
        return dict(zip(self._names, (*known, *values.tolist()), strict=True))


def _distribute(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(
        network, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def _learning(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in network.named_parameters() if p.requires_grad)
