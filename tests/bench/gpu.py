"""``python -m tests.bench.gpu``: the detector, mining and training on one GPU, without Ray.

What the card reaches in bfloat16 matrix products, and against it: images a second, the share of
that rate, and the share of time in which a kernel runs, of the detector (one pass of U²-Net-p, in
float32), of mining (decode, ResNet-101 over the paper's views, fused attention) and of joint
training steps. The networks' weights are random: speed does not ask.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from dcsp.config import DetectorSettings, NetworkSettings, PrecisionSettings, TrainSettings
from dcsp.images.decode import decode_rgb
from dcsp.images.resize import resize_rgb
from dcsp.inference.multiscale import Views, prepare, score_views
from dcsp.networks.deeplab import SegmentationNetwork, build_network
from dcsp.networks.weights import resolve_weights
from dcsp.saliency.detector import SaliencyDetector
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device
from dcsp.training.loop import Trainer
from dcsp.training.objective import ScoreObjective
from tests.bench.harness import machine
from tests.bench.inputs import Inputs
from tests.bench.training import make_batch

VIEWS = Views("attention", (1.0, 0.75, 0.5))
BF16 = PrecisionSettings(autocast="bf16")


@dataclass(frozen=True)
class Reading:
    """One line.

    Attributes:
        name: What ran.
        images_per_second: Median over the rounds.
        flops_per_second: Multiplications and additions of the network, two a product.
        utilisation: Of the rate that matrix products reach on this device.
        busy: Share of the time in which a kernel ran; None without a GPU.
    """

    name: str
    images_per_second: float
    flops_per_second: float
    utilisation: float
    busy: float | None


class Bench:
    """Measures on one device.

    Args:
        inputs: Photographs.
        device: Where.
    """

    def __init__(self, inputs: Inputs, device: torch.device) -> None:
        self.inputs = inputs
        self.device = device
        self.rate = matrix_rate(device, inputs.pick(512, 8192))

    def detector(self) -> Reading:
        """One pass over images of the detector's size, from bytes of pixels to maps."""
        card = DetectorSettings()
        path = resolve_weights(card.model)
        find = SaliencyDetector(path, card, self.device.type, torch.get_num_threads())
        photographs = self.inputs.photographs(self.inputs.pick(2, 128))
        size = (find.height, find.width)
        images = np.stack([resize_rgb(photograph.image, *size) for photograph in photographs])

        def run() -> None:
            find(images)

        with FlopCounterMode(display=False) as counter:  # nothing of what onnxruntime does
            run()
        return self._measure("detector", run, len(images), counter.get_total_flops())

    def mining(self) -> Reading:
        """From bytes to fused attention."""
        network = prepare(self._network(), BF16, self.device)
        photographs = self.inputs.photographs(self.inputs.pick(2, 128))
        rows = pa.table(
            {
                "bytes": [photograph.data for photograph in photographs],
                "height": [photograph.image.shape[0] for photograph in photographs],
                "width": [photograph.image.shape[1] for photograph in photographs],
            }
        )

        def infer(images: list[NDArray[np.uint8]], _: list[int]) -> list[NDArray[np.float32]]:
            return score_views(
                network, images, VIEWS, max_side=None, precision=BF16, device=self.device
            )

        def run() -> None:
            found = infer_rows(rows, decode_rgb, infer, device=Device(self.device.type))
            assert all(maps is not None for maps in found.values)

        with FlopCounterMode(display=False) as counter:  # counts what this thread does alone
            infer([photograph.image for photograph in photographs], [])
        run()
        return self._measure("mining", run, len(photographs), counter.get_total_flops())

    def training(self) -> Reading:
        """Joint steps on batches that are ready on the host."""
        pick = self.inputs.pick
        steps = pick(1, 10)
        settings = TrainSettings(steps=10_000, batch=pick(2, 64), crop=pick(65, 321))
        objective = ScoreObjective(settings, cues=True)
        trainer = Trainer(self._network(), settings, objective, BF16, "joint", device=self.device)
        batch = make_batch(self.inputs, settings)

        def run() -> None:
            for _ in range(steps):
                trainer.step(batch)
            trainer.flush()

        with FlopCounterMode(display=False) as counter:
            run()
        return self._measure("training", run, steps * settings.batch, counter.get_total_flops())

    def _network(self) -> SegmentationNetwork:
        torch.manual_seed(0)
        backbone = "resnet18" if self.inputs.quick else "resnet101"
        settings = NetworkSettings(backbone=backbone, output_stride=8, weights="random")
        return build_network(settings, self.inputs.classes, None)

    def _measure(self, name: str, run: Callable[[], None], images: int, flops: int) -> Reading:
        """Time what has run before, and so has its kernels."""
        seconds = statistics.median(self._seconds(run) for _ in range(self.inputs.pick(1, 5)))
        rate = flops / seconds
        busy = busy_share(run) if self.device.type == "cuda" else None
        return Reading(name, images / seconds, rate, rate / self.rate, busy)

    def _seconds(self, run: Callable[[], None]) -> float:
        start = time.perf_counter()
        run()
        _wait(self.device)
        return time.perf_counter() - start


def matrix_rate(device: torch.device, size: int, rounds: int = 20) -> float:
    """Operations a second of bfloat16 products of square matrices: the best of the rounds."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        left @ right
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return float(2 * size**3 / best)


def busy_share(run: Callable[[], None]) -> float:
    """The share of the time from the first kernel to the last in which at least one ran."""
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        run()
        torch.cuda.synchronize()
    cuda = torch.autograd.DeviceType.CUDA  # type: ignore[attr-defined]
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in recorded.events() or ()
        if event.device_type == cuda
    ]
    return covered(spans)


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """The share of the time from the first start to the last end that spans cover; 0 of none."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total / (end - min(spans)[0]) if total else 0.0


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="default: cuda; cpu to see that it runs")
    parser.add_argument("--quick", action="store_true", help="few images: see that it runs")
    parser.add_argument("--scenes", action="store_true", help="generated scenes, no photographs")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="default: gpu.json")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu --quick shows that the bench runs")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()["cpu"]
    with tempfile.TemporaryDirectory(prefix="dcsp-bench-") as directory:
        bench = Bench(Inputs(Path(directory), options.quick, options.scenes), device)
        print(f"{name}: {bench.rate / 1e12:.3g} TFLOP/s in bfloat16 matrix products", flush=True)
        readings = [bench.detector(), bench.mining(), bench.training()]
    for reading in readings:
        rates = f"{reading.images_per_second:.3g} images/s, {reading.flops_per_second / 1e12:.3g}"
        busy = "" if reading.busy is None else f", busy {reading.busy:.0%}"
        print(f"{reading.name}: {rates} TFLOP/s, {reading.utilisation:.1%} of that{busy}")
    written = {
        "device": name,
        "quick": options.quick,
        "matrix_flops_per_second": bench.rate,
        "readings": [asdict(reading) for reading in readings],
    }
    options.out.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
