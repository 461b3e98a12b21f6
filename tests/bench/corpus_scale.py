"""``python -m tests.bench.corpus_scale``: what a job costs its driver before and around the work.

A synthetic store with real names, manifests and listings: a snapshot of 1 million rows in 4,000
parts and one of 10 million in 20,000, whose part files have the statuses of all their rows and no
image. Each measurement is a process of its own, since the most memory that a process had does not
go down again. Prints seconds and peak memory at both sizes, and their growth; writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dcsp.config import CorpusSettings, NetworkSettings, RunConfig
from dcsp.labels import VOC_CLASSES
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.parts import PartsMade, PartSummary, begin_stage, complete_table
from dcsp.stages.stage import Stage, TableStage
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.fingerprint import digest
from dcsp.tables.layout import CORPUS_DIRECTORY, STATUSES_FILE, part_file
from dcsp.tables.snapshot import CorpusPart, Snapshot
from tests.bench.harness import machine

LIMIT_SECONDS, LIMIT_BYTES = 60.0, 1.5 * 2**30
"""What planning and the listing of a resumed job may take of 10 million rows."""
NAMES = 10_000
"""Most names of one file: file systems have limits."""
REPOSITORY = Path(__file__).parents[2]
IDLE = "import of what a job imports"
MEASURED = (
    IDLE,
    "load the snapshot",
    "lay out the stages",
    "parts left of a finished stage",
    "parts left of a half-finished stage",
    "complete a resumed stage, half remembered",
    "complete a resumed stage, nothing remembered",
    "dry run (dcsp plan without cluster)",
    "forecast without probe",
    "evaluation sums",
)
"""What is measured, in order; each is a function of :mod:`tests.bench.corpus_scale_probe`."""
LISTING = "list a source, cut it into batches"
MINING = "all parts through a stub model"
SMALLER = (LISTING, MINING)
"""Measured as well, at the first size alone: the one needs memory, the other minutes."""
LISTINGS = MEASURED[1:5] + MEASURED[7:9]
"""Planning and the listing of a resumed job, which the limits are for."""


@dataclass(frozen=True)
class Size:
    """Of a corpus."""

    rows: int
    parts: int


@dataclass(frozen=True)
class Measurement:
    """One process.

    Attributes:
        name: Of what was measured.
        size: Of the corpus.
        seconds: Of that alone, without the imports.
        peak: Most bytes that the process ever had.
        resident: Bytes that it had at every tenth of the work, of what takes longer.
    """

    name: str
    size: Size
    seconds: float
    peak: int
    resident: tuple[int, ...] = ()


SIZES = (Size(1_000_000, 4_000), Size(10_000_000, 20_000))
QUICK = (Size(10_000, 40), Size(100_000, 200))


def config(folder: Path) -> RunConfig:
    """Of the run that is planned over the synthetic corpus."""
    return RunConfig(
        store=str(folder / "store"),
        corpus=CorpusSettings(kind="folder", root=str(folder / "nowhere"), classes=VOC_CLASSES),
        network=NetworkSettings(backbone="resnet18", weights="random"),
    )


def snapshot_of(size: Size) -> Snapshot:
    """Parts named as real ones are, nine in ten of them for training, all with ground truth."""
    each = size.rows // size.parts
    names = [digest(["part", number]) for number in range(size.parts)]
    parts = [
        CorpusPart(name, "val" if number % 10 == 9 else "train", each, f"truth/{name}.parquet")
        for number, name in enumerate(names)
    ]
    return Snapshot(VOC_CLASSES, tuple(parts), rejected=0)


def write_store(folder: Path, size: Size) -> Plan:
    """A store in which saliency is done, and the first cues are half done.

    The parts of a table are links to one file, as large as its rows' statuses: what is listed,
    looked up and read is as many files as there are parts.
    """
    settings = config(folder)
    store, snapshot = Store(settings.store), snapshot_of(size)
    snapshot.save(store)
    rows = snapshot.parts[0].rows
    _link(store, CORPUS_DIRECTORY, [part.name for part in snapshot.parts], rows)
    plan = build_plan(settings, snapshot)
    for title, share in (("saliency", 1.0), ("cues_phase0", 0.5)):
        step = plan.step(title)
        stage = stage_of(step)
        parts = step.parts(snapshot)
        made = parts[: round(len(parts) * share)]
        begin_stage(store, stage.key)
        bytes_ = _link(store, stage.key.directory, [part.name for part in made], rows)
        summaries = [PartSummary(p.name, p.rows, bytes_, {"ok": p.rows}) for p in made]
        if share == 1.0:
            complete_table(store, stage.key, parts, PartsMade(summaries, 8), 3600.0)
    return plan


def stage_of(step: Step[Stage]) -> TableStage:
    """The stage of a step that makes a table image by image."""
    assert isinstance(step.stage, TableStage)
    return step.stage


def finish_cues(folder: Path, plan: Plan, *, remembered: bool) -> None:
    """Give the half-finished table its other half, as a killed job would have left it.

    Args:
        folder: Of the store.
        plan: Over it.
        remembered: Whether the counts of the first half are remembered.
    """
    store, step = Store(plan.config.store), plan.step("cues_phase0")
    names = [part.name for part in step.parts(plan.snapshot)]
    directory = step.stage.key.directory
    rows = plan.snapshot.parts[0].rows
    size = _link(store, directory, names, rows)
    store.remove(f"{directory}/{STATUSES_FILE}")
    for name in store.list(directory):
        if name.startswith("complete-"):
            store.remove(f"{directory}/{name}")
    if remembered:
        known = {name: [size, rows, 0, 0] for name in names[: len(names) // 2]}
        store.write_bytes(f"{directory}/{STATUSES_FILE}", json.dumps(known).encode())


def _link(store: Store, directory: str, parts: Sequence[str], rows: int) -> int:
    """Part files of a table, all of one content; their bytes."""
    table = pa.table({"image_id": [f"{n:08}" for n in range(rows)], "status": ["ok"] * rows})
    original = part_file(directory, "original")
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)  # without a checksum, which each name has its own of
    data = sink.getvalue().to_pybytes()
    for number, part in enumerate(parts):
        if number % NAMES == 0:
            store.write_bytes(original, data)
        target = Path(store.location(part_file(directory, part)))
        target.unlink(missing_ok=True)
        os.link(store.location(original), target)
    store.remove(original)
    return len(data)


def measure(folder: Path, name: str, size: Size) -> Measurement:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.corpus_scale_probe", str(folder), name]
    command += [str(size.rows), str(size.parts)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    resident = tuple(told.get("resident", ()))
    return Measurement(name, size, told["seconds"], told["peak"], resident)


def measure_all(sizes: Sequence[Size]) -> list[Measurement]:
    """Every measurement at every size."""
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="dcsp-scale-") as directory:
            folder = Path(directory)
            print(f"… a store of {size.rows:,} rows in {size.parts:,} parts", flush=True)
            plan = write_store(folder, size)
            for name in (*MEASURED, *(SMALLER if size == sizes[0] else ())):
                if name.startswith("complete"):
                    finish_cues(folder, plan, remembered="half remembered" in name)
                found.append(measure(folder, name, size))
                print(f"… {name}: {found[-1].seconds:.2f} s", flush=True)
    return found


def text(found: Sequence[Measurement], sizes: Sequence[Size]) -> str:
    """The table: seconds and peaks at each size, and the growth from the first to the last."""
    head = "".join(f" | {f'{s.rows:,} rows in {s.parts:,} parts':>32}" for s in sizes)
    lines = [f"{'':<46}{head} | growth of seconds, of memory beyond imports"]
    idle = {m.size: m.peak for m in found if m.name == IDLE}
    for name in dict.fromkeys(m.name for m in found if m.name not in SMALLER):
        own = {m.size: m for m in found if m.name == name}
        cells = "".join(
            f" | {own[size].seconds:>16.2f} s, {own[size].peak / 2**20:>8.0f} MiB" for size in sizes
        )
        first, last = own[sizes[0]], own[sizes[-1]]
        more = [max(m.peak - idle.get(m.size, 0), 0) / 2**20 for m in (first, last)]
        growth = (
            f"× {last.seconds / max(first.seconds, 1e-3):.1f}, {more[0]:.0f} → {more[1]:.0f} MiB"
        )
        lines.append(f"{name:<46}{cells} | {growth}")
    return "\n".join([*lines, *map(_line, (m for m in found if m.name in SMALLER))])


def _line(found: Measurement) -> str:
    """What was measured at one size alone."""
    line = f"{found.name}, {found.size.rows:,} rows in {found.size.parts:,} parts: "
    line += f"{found.seconds:.0f} s, at most {found.peak / 2**20:.0f} MiB"
    if found.resident:
        series = ", ".join(f"{size / 2**20:.0f}" for size in found.resident)
        line += f"; MiB at every tenth of the work: {series}"
    return line


def verdict(found: Sequence[Measurement]) -> str:
    """Whether planning and resuming stay within the limits at the largest size."""
    largest = max((m.size for m in found), key=lambda size: size.rows)
    own = [m for m in found if m.size == largest and m.name in LISTINGS]
    seconds, peak = sum(m.seconds for m in own), max(m.peak for m in own)
    within = seconds < LIMIT_SECONDS and peak < LIMIT_BYTES
    return (
        f"{largest.rows:,} rows: planning and resume listing take {seconds:.1f} s together "
        f"(limit {LIMIT_SECONDS:g} s), at most {peak / 2**30:.2f} GiB (limit "
        f"{LIMIT_BYTES / 2**30:g} GiB): {'within' if within else 'BEYOND'} the limits"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.corpus_scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small: see that it runs")
    parser.add_argument("--out", type=Path, default=Path("corpus_scale.json"))
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else SIZES
    where = {**machine(), "memory_gib": _memory() / 2**30}
    print(", ".join(f"{name} {value}" for name, value in where.items()), flush=True)
    found = measure_all(sizes)
    print(f"\n{text(found, sizes)}\n\n{verdict(found)}")
    written = {"machine": where, "quick": options.quick, "found": [asdict(m) for m in found]}
    options.out.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


if __name__ == "__main__":
    main()
