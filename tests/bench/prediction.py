"""The prediction job: labels of photographs over three scales, from a corpus to Parquet."""

from __future__ import annotations

from collections.abc import Callable

from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from tests.bench.harness import Row, against
from tests.bench.inputs import Inputs
from tests.bench.peers.plain_prediction import PlainPrediction
from tests.bench.stages import CORES, stages_of
from tests.threads import torch_threads


def predict_end_to_end(inputs: Inputs) -> Row:
    """The job's steady state, without CRF."""
    stages = stages_of(inputs)
    photographs = inputs.photographs(inputs.pick(3, 32), "train")
    model = stages.plan.model
    assert model is not None
    network = load_checkpoint(stages.store, model.key.directory, SegmentationNetwork)
    scales = stages.config.predict.scales
    plain = PlainPrediction(network, inputs.directory / "plain", scales)

    def peers() -> list[float]:
        with torch_threads(CORES):
            return [plain.seconds(p.row.image_id, p.data) for p in photographs]

    before = peers()
    ours = stages.predictions.seconds_each
    return against(
        "predict_end_to_end",
        ours,
        before + peers(),
        "image",
        images=f"{stages.predictions.items} {inputs.images}",
        peer_is=f"one image, one scale at a time, float32, {CORES} threads, "
        f"{len(photographs)} images before and after",
        scales=scales,
        start_up_seconds=stages.predictions.start_up,
    )


ROWS: dict[str, Callable[[Inputs], Row]] = {"predict_end_to_end": predict_end_to_end}
