"""Training steps: on batches that are ready in memory, and with all that brings them there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import torch
from numpy.typing import NDArray

from dcsp.config import NetworkSettings, PrecisionSettings, TrainSettings
from dcsp.networks.deeplab import build_network
from dcsp.networks.weights import backbone_weights
from dcsp.tables.codecs import encode_labels
from dcsp.training.augment import make_samples
from dcsp.training.loop import Trainer
from dcsp.training.objective import ScoreObjective
from tests.bench.harness import Row, against, compare
from tests.bench.inputs import Inputs
from tests.bench.peers.plain_training import PlainTrainer
from tests.bench.stages import CORES, stages_of
from tests.threads import torch_threads

LITE0 = NetworkSettings(backbone="efficientnet_lite0", output_stride=16, atrous_rates=(3, 6, 9, 12))
RESNET50 = NetworkSettings(
    backbone="resnet50", output_stride=16, atrous_rates=(3, 6, 9, 12), weights="random"
)


def train_step(inputs: Inputs) -> Row:
    """The joint step of EfficientNet-lite0."""
    settings = TrainSettings(batch=4, crop=161) if inputs.quick else TrainSettings()
    return _step_row("train_step", inputs, LITE0, settings, inputs.pick(2, 9))


def train_step_resnet50(inputs: Inputs) -> Row:
    """The joint step of ResNet-50, whose speed does not depend on its weights."""
    settings = TrainSettings(batch=inputs.pick(2, 4), crop=inputs.pick(97, 257))
    return _step_row("train_step_resnet50", inputs, RESNET50, settings, inputs.pick(2, 5))


def _step_row(
    name: str, inputs: Inputs, wanted: NetworkSettings, settings: TrainSettings, rounds: int
) -> Row:
    torch.manual_seed(0)
    network = build_network(wanted, inputs.classes, backbone_weights(wanted))
    plain = PlainTrainer(network, settings)
    ours = Trainer(
        network, settings, ScoreObjective(settings, cues=True), PrecisionSettings(), "joint"
    )
    batch = make_batch(inputs, settings)
    pair = compare(lambda: ours.step(batch), lambda: plain.step(batch), rounds, inputs.pick(1, 2))
    return pair.row(
        name,
        1,
        "step",
        images=inputs.images,
        peer_is="plain PyTorch loop, float32, NCHW, on the same network and batch",
        network=f"{wanted.backbone}, stride {wanted.output_stride}",
        batch=settings.batch,
        crop=settings.crop,
        first_loss={"ours": pair.our_result["loss"], "peer": pair.peer_result},
    )


def train_ingest(inputs: Inputs) -> Row:
    """The TorchTrainer stage, which reads and augments, against the step alone."""
    stages = stages_of(inputs)
    settings = stages.settings
    batch = make_batch(inputs, settings)
    torch.manual_seed(0)
    wanted = stages.config.network
    network = build_network(wanted, inputs.classes, backbone_weights(wanted))
    trainer = Trainer(
        network, settings, ScoreObjective(settings, cues=True), stages.config.precision, "joint"
    )

    def steps() -> list[float]:
        seconds = []
        with torch_threads(CORES):
            for _ in range(inputs.pick(2, 10)):
                start = time.perf_counter()
                trainer.step(batch)
                seconds.append(time.perf_counter() - start)
        return seconds[1:]  # the first one warms up

    before = steps()
    ours = stages.training.seconds_each
    return against(
        "train_ingest",
        ours,
        before + steps(),
        "step",
        images=inputs.images,
        peer_is=f"the same step on a batch in memory, {CORES} threads, before and after",
        steps=settings.steps,
        batch=settings.batch,
        crop=settings.crop,
        start_up_seconds=stages.training.start_up,
    )


def make_batch(inputs: Inputs, settings: TrainSettings) -> dict[str, NDArray[Any]]:
    """One batch; masks stand for cues, since nothing is learnt here."""
    rows = [
        {
            "image_id": photograph.row.image_id,
            "height": photograph.image.shape[0],
            "width": photograph.image.shape[1],
            "bytes": photograph.data,
            "tags": photograph.tags,
            "cue": encode_labels(photograph.mask),
        }
        for photograph in inputs.photographs(settings.batch, "train")
    ]
    table = pa.Table.from_pylist(rows)
    return make_samples(table, settings, len(inputs.classes), seed=0, stage="joint", epoch=0)


ROWS: dict[str, Callable[[Inputs], Row]] = {
    "train_step": train_step,
    "train_step_resnet50": train_step_resnet50,
    "train_ingest": train_ingest,
}
