"""Training steps on batches that are ready in memory."""

from __future__ import annotations

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
from tests.bench.harness import Row, compare
from tests.bench.inputs import Inputs
from tests.bench.peers.plain_training import PlainTrainer

NETWORK = NetworkSettings(
    backbone="efficientnet_lite0", output_stride=16, atrous_rates=(3, 6, 9, 12)
)


def train_step(inputs: Inputs) -> Row:
    """The joint step."""
    settings = TrainSettings(batch=4, crop=161) if inputs.quick else TrainSettings()
    torch.manual_seed(0)
    network = build_network(NETWORK, inputs.classes, backbone_weights(NETWORK))
    plain = PlainTrainer(network, settings)
    ours = Trainer(
        network, settings, ScoreObjective(settings, cues=True), PrecisionSettings(), "joint"
    )
    batch = _batch(inputs, settings)
    pair = compare(
        lambda: ours.step(batch), lambda: plain.step(batch), inputs.pick(2, 9), inputs.pick(1, 2)
    )
    return pair.row(
        "train_step",
        1,
        "step",
        images=inputs.images,
        peer_is="plain PyTorch loop, float32, NCHW, on the same network and batch",
        network=f"{NETWORK.backbone}, stride {NETWORK.output_stride}",
        batch=settings.batch,
        crop=settings.crop,
        first_loss={"ours": pair.our_result["loss"], "peer": pair.peer_result},
    )


def _batch(inputs: Inputs, settings: TrainSettings) -> dict[str, NDArray[Any]]:
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


ROWS: dict[str, Callable[[Inputs], Row]] = {"train_step": train_step}
