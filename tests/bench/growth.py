"""``python -m tests.bench.growth``: how what a stage costs grows, one quantity at a time.

Every figure is the probe's (:mod:`dcsp.capacity.probe`): the stages of a run over the same 16
photographs in one process, with one thread for mining and predicting and all of them for training.
Prints a table for each quantity and writes JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dcsp.capacity.pace import EVALUATION, INGEST, Pace
from dcsp.capacity.probe import Probe, Worker
from dcsp.capacity.sample import IMAGES
from dcsp.config import DCSPSettings, PredictSettings, RunConfig, TrainSettings
from dcsp.corpus.pack import part_name
from dcsp.corpus.reading import read_rows
from dcsp.corpus.sources.base import Listed, Source, SourceRow
from dcsp.images.decode import decode_rgb
from dcsp.images.resize import resize_labels
from dcsp.labels import TagMapper
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.snapshot import TRAIN, CorpusPart
from tests.bench.harness import machine
from tests.bench.inputs import NETWORK, Inputs
from tests.bench.stages import CORES

SALIENCY, CUES, JOINT, PREDICTIONS = "saliency", "cues_phase0", "joint_phase0", "predictions"
MAPS = (INGEST, SALIENCY, CUES, PREDICTIONS, EVALUATION)
PHOTOGRAPH_PIXELS = 500 * 375
THRESHOLDS = (0.7, 0.8, 0.9)
"""Erasing thresholds of the first passes; the paper has two."""


@dataclass(frozen=True)
class Variant:
    """One value of a quantity.

    Attributes:
        quantity: What is varied.
        value: To what.
        config: The run.
        stages: Whose cost is asked for.
        factor: Of the sides of the photographs.
    """

    quantity: str
    value: float
    config: RunConfig
    stages: tuple[str, ...]
    factor: float = 1.0


@dataclass(frozen=True)
class ResizedSource:
    """The images and masks of another source at a factor of their sides."""

    source: Source
    factor: float

    def list_rows(self) -> Listed:
        """Those of the other source."""
        return self.source.list_rows()

    def read(self, row: SourceRow) -> bytes:
        """A JPEG of quality 90."""
        image = Image.fromarray(decode_rgb(self.source.read(row)))
        sink = io.BytesIO()
        image.resize(self._size(*image.size), Image.Resampling.LANCZOS).save(
            sink, "JPEG", quality=90
        )
        return sink.getvalue()

    def read_mask(self, row: SourceRow) -> bytes | None:
        """A PNG of class ids."""
        data = self.source.read_mask(row)
        if data is None:
            return None
        mask = np.asarray(Image.open(io.BytesIO(data)), np.uint8)
        width, height = self._size(mask.shape[1], mask.shape[0])
        return encode_labels(resize_labels(mask, height, width))

    def _size(self, width: int, height: int) -> tuple[int, int]:
        return max(1, round(width * self.factor)), max(1, round(height * self.factor))


@dataclass(frozen=True)
class Sample:
    """Photographs of the training split as a part of a corpus; see :mod:`dcsp.capacity.probe`."""

    source: ResizedSource
    rows: tuple[SourceRow, ...]
    config: RunConfig

    def __call__(self, scratch: Store) -> tuple[CorpusPart, Pace]:
        """See :class:`dcsp.capacity.probe.Sample`."""
        corpus, source = self.config.corpus, Held.of(self.source, self.rows)
        start = time.perf_counter()
        table, truth, rejected = read_rows(source, self.rows, TagMapper(corpus.classes), corpus)
        assert not rejected.num_rows, rejected.to_pylist()
        name = part_name(table)
        size = scratch.write_table(part_file(CORPUS_DIRECTORY, name), table)
        masks = part_file("truth", name)
        scratch.write_table(masks, truth)
        each = (time.perf_counter() - start) / table.num_rows
        part = CorpusPart(name, TRAIN, table.num_rows, masks)
        return part, Pace("probe", 0.0, 0.0, each, size / table.num_rows)


@dataclass(frozen=True)
class Held:
    """What another source holds, in memory: making it is not what is measured."""

    images: dict[str, bytes]
    masks: dict[str, bytes | None]

    @classmethod
    def of(cls, source: Source, rows: Sequence[SourceRow]) -> Held:
        """Read everything."""
        images = {row.image_id: source.read(row) for row in rows}
        return cls(images, {row.image_id: source.read_mask(row) for row in rows})

    def list_rows(self) -> Listed:
        """Nothing lists a corpus that is given row by row."""
        return Listed.of([])

    def read(self, row: SourceRow) -> bytes:
        """The image."""
        return self.images[row.image_id]

    def read_mask(self, row: SourceRow) -> bytes | None:
        """Its mask."""
        return self.masks[row.image_id]


def variants(inputs: Inputs) -> Iterator[Variant]:
    """Everything that is varied, from what :func:`base` gives."""
    start, few = base(inputs), inputs.pick(1, 9)
    for factor in (0.5, 1.0, 2.0, 4.0)[:few]:
        pixels = factor**2 * PHOTOGRAPH_PIXELS
        yield Variant("pixels", pixels, start, MAPS, factor)
    for factor in (0.5, 1.0, 2.0)[:few]:
        pixels = factor**2 * PHOTOGRAPH_PIXELS
        yield Variant("pixels, with CRF", pixels, _with_crf(start), (CUES, PREDICTIONS), factor)
    for classes in (20, 80, 240)[:few]:
        stages = (CUES, JOINT, PREDICTIONS, EVALUATION)
        yield Variant("classes", classes, _with_classes(start, classes), stages)
    for scales in ((1.0,), (1.0, 0.75, 0.5), (1.5, 1.25, 1.0, 0.75, 0.5))[:few]:
        area = sum(scale**2 for scale in scales)
        yield Variant("area of all scales", area, _with_scales(start, scales), (CUES, PREDICTIONS))
    for passes in (1, 2, 3, 4)[:few]:
        yield Variant("passes", passes, _with_passes(start, passes), (SALIENCY,))


def base(inputs: Inputs) -> RunConfig:
    """What is varied: the paper's views on the network that CPUs have time for, without CRF."""
    return RunConfig(
        store=str(inputs.directory / "growth"),
        name="growth",
        corpus=inputs.settings,
        network=NETWORK.model_copy(update={"max_side": None}),
        joint=TrainSettings(batch=inputs.pick(2, 10), crop=inputs.pick(97, 321)),
        predict=PredictSettings(crf=False),
    )


def _with_crf(config: RunConfig) -> RunConfig:
    predict = config.predict.model_copy(update={"crf": True})
    return _with_cues(config, crf=True).model_copy(update={"predict": predict})


def _with_scales(config: RunConfig, scales: tuple[float, ...]) -> RunConfig:
    attention = config.cues.dcsp.attention.model_copy(update={"scales": scales})
    predict = config.predict.model_copy(update={"scales": scales})
    return _with_cues(config, attention=attention).model_copy(update={"predict": predict})


def _with_classes(config: RunConfig, count: int) -> RunConfig:
    known = config.corpus.classes
    names = (*known, *(f"class{number}" for number in range(len(known), count)))
    return config.model_copy(update={"corpus": config.corpus.model_copy(update={"classes": names})})


def _with_passes(config: RunConfig, passes: int) -> RunConfig:
    saliency = config.saliency.model_copy(update={"thresholds": THRESHOLDS[: passes - 1]})
    return _with_cues(config, saliency_pass=passes).model_copy(update={"saliency": saliency})


def _with_cues(config: RunConfig, **changes: Any) -> RunConfig:
    dcsp: DCSPSettings = config.cues.dcsp.model_copy(update=changes)
    return config.model_copy(update={"cues": config.cues.model_copy(update={"dcsp": dcsp})})


def measure(variant: Variant, inputs: Inputs) -> dict[str, Pace]:
    """Title of a stage → what it costs."""
    rows = inputs.rows(TRAIN, inputs.pick(4, IMAGES))
    sample = Sample(ResizedSource(inputs.source, variant.factor), tuple(rows), variant.config)
    worker = Worker(training_threads=CORES)
    found = Probe(variant.config, frozenset(variant.stages), worker)(sample)
    if found.trouble:
        raise RuntimeError(found.trouble)
    return found.paces


def exponent(values: Sequence[float], costs: Sequence[float]) -> float:
    """The power of the quantity that the cost grows with, by least squares of logarithms."""
    slope, _ = np.polyfit([math.log(v) for v in values], [math.log(c) for c in costs], 1)
    return float(slope)


def table(quantity: str, found: Sequence[tuple[float, dict[str, Pace]]]) -> str:
    """Milliseconds of the model and of the tasks beside it, a column for each value."""
    values = [value for value, _ in found]
    lines = [
        [quantity, *(f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in values)]
    ]
    for stage in found[0][1]:
        for part in ("model", "tasks"):
            costs = [1000 * getattr(paces[stage], part) for _, paces in found]
            if any(costs):
                lines.append([f"{stage}, {part}", *map(_short, costs)])
                if len(costs) > 1 and all(costs):
                    lines[-1].append(f"∝ {quantity[:6]}^{exponent(values, costs):.2f}")
    return "\n".join(" | ".join(line) for line in lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything, print tables, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images: see that it runs")
    parser.add_argument("--scenes", action="store_true", help="generated scenes, no photographs")
    parser.add_argument(
        "--out", type=Path, default=Path("growth.json"), help="default: growth.json"
    )
    options = parser.parse_args(arguments)
    found: dict[str, list[tuple[float, dict[str, Pace]]]] = {}
    where = machine()
    with tempfile.TemporaryDirectory(prefix="dcsp-bench-") as directory:
        inputs = Inputs(Path(directory), options.quick, options.scenes)
        for variant in variants(inputs):
            print(f"… {variant.quantity}: {variant.value:g}", flush=True)
            paces = measure(variant, inputs)
            found.setdefault(variant.quantity, []).append((variant.value, paces))
    for quantity, series in found.items():
        print(f"\n{table(quantity, series)}")
    points = [
        {"quantity": quantity, "value": value, "stage": stage, **asdict(pace)}
        for quantity, series in found.items()
        for value, paces in series
        for stage, pace in paces.items()
    ]
    written = {"machine": where, "quick": options.quick, "points": points}
    options.out.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
