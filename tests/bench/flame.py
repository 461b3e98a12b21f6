"""``python -m tests.bench.flame``: a flame graph of the stages, and what takes which share of each.

py-spy, which comes with Ray, watches a probe (:mod:`dcsp.capacity.probe`) of 16 photographs in one
process. What loads a model once is left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.flame_svg import draw
from tests.bench.growth import CUES, JOINT, PREDICTIONS, SALIENCY, Variant, base, measure
from tests.bench.inputs import Inputs

REPOSITORY = Path(__file__).parents[2]
SAMPLES_PER_SECOND = 100
STAGES = {
    "dcsp/saliency/table.py": SALIENCY,
    "dcsp/cues/dcsp.py": CUES,
    "dcsp/inference/table.py": PREDICTIONS,
    "dcsp/training/": JOINT,
    "dcsp/evaluation/": "evaluation",
}
"""Where a stack goes through → the stage it belongs to."""
ONCE = ("load", "resolve_weights", "load_checkpoint", "trainer", "build", "_save")
WORK = {
    "decode_rgb": "decode JPEG",
    "resize_rgb": "resize image",
    "_normalise": "normalise for the detector",
    "_run detector.py": "detector",
    "hierarchical_saliency": "erase, combine",
    "quantize": "quantise, pack",
    "pack_array": "quantise, pack",
    "_png": "encode PNG",
    "_open": "decode PNG",
    "_fuse": "network and fusion of views",
    "upsampled_winners": "upsample, softmax, argmax",
    "to_image": "upsample, normalise",
    "discover": "Algorithm 1",
    "backward _tensor.py": "backward",
    "_losses": "forward and losses",
    "step": "optimiser",
    "make_samples": "crop, flip, scale",
    "write_table": "write Parquet",
    "read_table": "read Parquet",
    "add confusion.py": "confusion matrix",
}
"""Function, and its file where that is needed → what it does; of a stack the innermost counts."""

ELSEWHERE = ("backward _tensor.py",)
"""Keys of :data:`WORK` that are torch's own."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Record, draw, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flame", description=__doc__)
    parser.add_argument("--svg", type=Path, default=Path("flame.svg"), help="default: flame.svg")
    parser.add_argument("--quick", action="store_true", help="few images: see that it runs")
    parser.add_argument("--scenes", action="store_true", help="generated scenes, no photographs")
    parser.add_argument("--inside", action="store_true", help="run the probe alone, unwatched")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="dcsp-bench-") as directory:
        if options.inside:
            inputs = Inputs(Path(directory), options.quick, options.scenes)
            stages = (SALIENCY, CUES, JOINT, PREDICTIONS, "evaluation")
            measure(Variant("", 1.0, base(inputs), stages), inputs)
            return
        flags = ["--quick"] * options.quick + ["--scenes"] * options.scenes
        raw = Path(directory) / "stacks.txt"
        _record(raw, flags)
        stacks = raw.read_text(encoding="utf-8").splitlines()
    picture = draw(paths(stacks), "the stages of a run, 16 photographs")
    options.svg.write_text(picture, encoding="utf-8")
    print(table(shares(stacks)))


def paths(stacks: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Samples of each path through the functions of dcsp, its stage first."""
    found: Counter[tuple[str, ...]] = Counter()
    for stage, frames, count in _samples(stacks):
        own = [(name, place) for name, place in frames if "dcsp/" in place]
        inside = [f"{name} ({place.partition('dcsp/')[2]})" for name, place in own]
        found[(stage, *(frame for frame in inside if "(probe.py)" not in frame))] += count
    return found


def shares(stacks: Sequence[str]) -> dict[str, Counter[str]]:
    """Samples of each kind of work in each stage.

    Args:
        stacks: Lines such as ``main (a.py);work (b.py) 12``, the innermost function last.
    """
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for stage, frames, count in _samples(stacks):
        found[stage][_kind(frames)] += count
    return dict(found)


def _samples(stacks: Sequence[str]) -> Iterator[tuple[str, list[tuple[str, str]], int]]:
    """Stage, frames and samples of the stacks that belong to a stage."""
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = [_named(frame) for frame in stack.split(";")]
        files = [file for _, file in frames]
        stage = next((s for place, s in STAGES.items() if any(place in f for f in files)), None)
        if stage and not {name for name, _ in frames} & set(ONCE):
            yield stage, frames, int(count)


def _named(frame: str) -> tuple[str, str]:
    """Function and file of a frame such as ``Detector._run (dcsp/saliency/detector.py:9)``."""
    name, _, place = frame.partition(" (")
    return name.rpartition(".")[2], place.rstrip(")").partition(":")[0]


def _kind(frames: Sequence[tuple[str, str]]) -> str:
    for name, place in reversed(frames):
        for key in (f"{name} {place.rpartition('/')[2]}", name):
            if key in WORK and ("dcsp/" in place or key in ELSEWHERE):
                return WORK[key]
    return "the rest"


def table(found: dict[str, Counter[str]]) -> str:
    """Stages, and in each the kinds of work by their share."""
    lines = []
    for stage, kinds in found.items():
        total = sum(kinds.values())
        parts = [f"{kind} {count / total:.0%}" for kind, count in kinds.most_common()]
        lines.append(f"{stage} ({total} samples): {', '.join(parts)}")
    return "\n".join(lines)


def _record(out: Path, flags: Sequence[str]) -> None:
    watched = [sys.executable, "-m", "tests.bench.flame", "--inside", *flags]
    rate = str(SAMPLES_PER_SECOND)
    recorder = ["py-spy", "record", "--function", "--rate", rate, "--format", "raw"]
    command = [*recorder, "--output", str(out), "--", *watched]
    subprocess.run(command, check=True, cwd=REPOSITORY)


if __name__ == "__main__":
    main()
