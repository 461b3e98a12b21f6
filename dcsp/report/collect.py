"""From a finished run in a store to its report: reads tables, computes nothing new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsp.config import CorpusSettings
from dcsp.config.file import dump_config
from dcsp.errors import ImageError
from dcsp.evaluation.quality import Figures
from dcsp.evaluation.truth import read_truth
from dcsp.images.decode import decode_rgb
from dcsp.images.resize import limit_side
from dcsp.methods.registry import method_of
from dcsp.report.data import CuePhase, Curve, GalleryItem, ReportData
from dcsp.report.page import build_report
from dcsp.run.plan import Plan
from dcsp.stages.columns import read_columns
from dcsp.stages.parts import CORPUS_INPUT, TableInput, live_rows, read_part
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, decode_map, decode_maps
from dcsp.tables.layout import CORPUS_DIRECTORY, metrics_file, rejected_file, report_file, run_file
from dcsp.tables.snapshot import TRAIN, VAL, CorpusPart

TRAIN_SHARE = 2 / 3
"""Share of the gallery that shows training images, which have cues to show."""
UNPLOTTED = {"step", "learning_rate"}
_Place = tuple[str, int]
LOOKED_AT = 5000
"""Images among which those that are trusted least are looked for."""
BLANK_SIDE = 256
"""Longest side in pixels of the grey that stands for an image that does not decode."""


def write_report(store: Store, plan: Plan) -> str:
    """Write the report of a run that has its metrics; returns its name in the store.

    Raises:
        StoreError: A table of the run is not there.
    """
    name = report_file(plan.run_id)
    store.write_bytes(name, build_report(collect(store, plan)).encode())
    return name


def collect(store: Store, plan: Plan) -> ReportData:
    """Everything the report of a run shows."""
    run: dict[str, Any] = store.read_json(run_file(plan.run_id))
    metrics: dict[str, Any] = store.read_json(metrics_file(plan.run_id))
    split = VAL if VAL in metrics and metrics[VAL]["images"] else TRAIN
    figures: dict[str, Figures | None] = metrics.get(split, {}).get("figures", {})
    rejected = store.read_table(rejected_file(plan.snapshot.fingerprint), ["reason"])
    return ReportData(
        run_id=plan.run_id,
        created=run["created"],
        store=store.url,
        corpus=_corpus_line(plan.config.corpus),
        classes=plan.snapshot.classes,
        images={s: plan.snapshot.rows([s]) for s in plan.config.corpus.splits},
        method=method_of(plan.config).words,
        start=_phases(plan, metrics, Role.START),
        cues=_phases(plan, metrics, Role.CUES),
        compared={
            step.name: metrics["cues"][step.name]["figures"] for step in plan.of(Role.COMPARED)
        },
        prediction=figures.get("without_crf"),
        prediction_crf=figures.get("with_crf"),
        published={
            s: metrics[s]["figures"].get("published") for s in plan.labelled if metrics[s]["images"]
        },
        measured_split=split,
        curves=list(_curves(store, plan)),
        seconds=metrics["seconds"],
        reused=frozenset(s["title"] for s in run["steps"] if not s["computed"]),
        rows={name: rows for name, rows in metrics["rows"].items() if name != "cues"},
        rejected=dict(Counter(map(str, rejected["reason"].to_pylist()))),
        fingerprints={s.title: s.stage.key.fingerprint for s in plan.steps},
        settings=dump_config(plan.config),
        versions=run["versions"],
        gallery=list(gallery_items(store, plan)),
        masks=plan.snapshot.masks,
        ends_with_cues=plan.model is None,
        selftags=metrics.get("selftags"),
        selfcues=_selfcues(plan, metrics),
        trust=metrics.get("trust"),
        corrections=metrics.get("corrections", {}),
    )


def _phases(plan: Plan, metrics: dict[str, Any], role: Role) -> list[CuePhase]:
    """The cues of a role, by phase, with their figures."""
    return [
        CuePhase(
            step.phase or 0,
            step.stage.key.settings["method"],
            metrics["cues"][step.name]["figures"],
            metrics["cues"][step.name].get("miou_s1"),
        )
        for step in plan.of(role)
    ]


def _selfcues(plan: Plan, metrics: dict[str, Any]) -> Figures | None:
    steps = plan.of(Role.SELFCUES)
    figures: Figures | None = metrics["cues"][steps[-1].name]["figures"] if steps else None
    return figures if figures and figures["images"] else None


def _corpus_line(settings: CorpusSettings) -> str:
    if settings.kind == "scenes":
        return "generated scenes"
    return f"{settings.kind} at {settings.root}"


def _curves(store: Store, plan: Plan) -> Iterator[Curve]:
    for step in plan.trainings:
        history = step.stage.history(store)
        names = [n for n in (history[0] if history else ()) if n not in UNPLOTTED]
        losses = {n: [(int(entry["step"]), entry[n]) for entry in history] for n in names}
        yield Curve(step.title, losses)


def gallery_items(store: Store, plan: Plan) -> Iterator[GalleryItem]:
    """The images of the gallery: of each split those that are trusted least, then any others."""
    wanted = {TRAIN: round(plan.config.report.gallery * TRAIN_SHARE)}
    wanted[VAL] = plan.config.report.gallery - wanted[TRAIN]
    for split, count in wanted.items():
        chosen = _chosen(store, plan, split, count)
        items: dict[_Place, GalleryItem] = {}
        for part in {part.name: part for part, _ in chosen}.values():
            rows = [row for other, row in chosen if other is part]
            found = _items(store, plan, part, rows)
            items.update(zip([(part.name, row) for row in rows], found, strict=True))
        yield from (items[part.name, row] for part, row in chosen)


def _chosen(store: Store, plan: Plan, split: str, count: int) -> list[tuple[CorpusPart, int]]:
    """Parts and the positions of live rows in them.

    Half are those that are trusted least of the first thousands, the others are the first ones:
    both are of all images, whose order is that of digests of their ids.
    """
    parts, rows = [], 0
    for part in plan.snapshot.parts:
        if part.split == split and rows < max(count, LOOKED_AT):
            parts.append(part)
            rows += part.live
    trust = plan.of(Role.TRUST) if split in plan.labelled else []
    directory = trust[0].stage.key.directory if trust else CORPUS_DIRECTORY
    columns = ("image_id", "score") if trust else ("image_id",)
    tables = list(read_columns(store, directory, [part.part for part in parts], columns))
    places = [
        (part, row)
        for part, table in zip(parts, tables, strict=True)
        for row in range(table.num_rows)  # without the erased, which the part does not know of
    ]
    worst: list[int] = []
    if trust:
        scores = np.array([s for table in tables for s in table["score"].to_pylist()], float)
        known = np.flatnonzero(~np.isnan(scores))
        worst = known[np.argsort(scores[known], kind="stable")][: count // 2].tolist()
    is_worst = set(worst)
    others = [number for number in range(len(places)) if number not in is_worst]
    return [places[number] for number in (worst + others)[:count]]


def _items(
    store: Store, plan: Plan, part: CorpusPart, positions: Sequence[int]
) -> Iterator[GalleryItem]:
    """Some images of a part, with whatever tables of the run hold of them."""
    zipped = live_rows(read_part(store, _inputs(plan, part.split), part.name), part.dead)
    truth: list[bytes | None] = [None] * zipped.num_rows
    if (masks := read_truth(store, part, plan.snapshot.masks)) is not None:
        truth = live_rows(masks, part.dead)["label"].to_pylist()
    phases, words = len(plan.cue_steps), method_of(plan.config).words
    for position in positions:
        row, mask = zipped.slice(position, 1).to_pylist()[0], truth[position]
        maps = row.get("saliency.maps") or []
        attention = row.get("cue0.attention")
        yield GalleryItem(
            image_id=row["image_id"],
            split=part.split,
            tags=row["tags"],
            image=decode_image(row, plan.config.corpus.max_pixels),
            saliency={
                words.map_title(k): decode_map(maps[k - 1]) for k in sorted({1, len(maps)}) if maps
            },
            attention=decode_maps(attention, row["cue0.attention_shape"]) if attention else None,
            cues={
                f"cue {phase}": decode_labels(row[f"cue{phase}.label"])
                for phase in range(phases)
                if row.get(f"cue{phase}.label")
            },
            prediction=_label(row.get("prediction.label")),
            truth=_label(mask),
            trust=row.get("trust.score"),
            reasons=[
                (found["class"], reason)
                for found in row.get("trust.classes") or ()
                for reason in found["reasons"]
            ],
            error=next((row[name] for name in row if name.endswith(".error") and row[name]), None),
        )


def _inputs(plan: Plan, split: str) -> tuple[TableInput, ...]:
    tables = [CORPUS_INPUT]
    if split == TRAIN:
        for step in plan.of(Role.MAPS)[:1]:
            tables.append(TableInput("saliency", step.stage.key.directory, ("maps", "error")))
        for phase, step in enumerate(plan.cue_steps):
            columns = ("label", "attention", "attention_shape", "error")
            tables.append(TableInput(f"cue{phase}", step.stage.key.directory, columns))
    if split in plan.labelled:
        directory = plan.of(Role.PREDICTIONS)[0].stage.key.directory
        tables.append(TableInput("prediction", directory, ("label", "error")))
        for step in plan.of(Role.TRUST):
            tables.append(TableInput("trust", step.stage.key.directory, ("score", "classes")))
    return tuple(tables)


def decode_image(row: dict[str, Any], max_pixels: int) -> NDArray[np.uint8]:
    """The image of a row; grey where it does not decode: its tables then tell of the error."""
    try:
        return decode_rgb(row["bytes"], max_pixels)
    except ImageError:
        height, width = limit_side(row["height"], row["width"], BLANK_SIDE)
        return np.full((height, width, 3), 128, np.uint8)


def _label(data: bytes | None) -> NDArray[np.uint8] | None:
    return decode_labels(data) if data else None
