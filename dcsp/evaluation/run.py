"""Evaluation of a whole run, part by part: the only stage that reads ground truth.

Parts are compared one by one on any worker; their qualities add up to the run's figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.cues.dcsp import DCSPStage
from dcsp.evaluation.quality import (
    Figures,
    Quality,
    evaluate_cues,
    evaluate_labels,
    evaluate_predictions,
    summarize,
)
from dcsp.images.resize import resize_labels
from dcsp.run.plan import PREDICTIONS, Plan
from dcsp.stages.parts import live_rows, read_part
from dcsp.stages.stage import TableInput
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.schemas import TRUTH
from dcsp.tables.snapshot import CorpusPart

Qualities = dict[str, Quality]
"""What was measured → its summable quality: ``cues_phase0``, ``cues_phase0_s1``, ``val``,
``val_crf`` …"""


@dataclass(frozen=True)
class Evaluator:
    """Compares every table of a run with the ground truth of one part; picklable."""

    store: Store
    plan: Plan

    def __call__(self, part: CorpusPart) -> Qualities:
        """The qualities of one part; none where the part has no ground truth."""
        if part.truth is None:
            return {}
        truth = live_rows(self.store.read_table(part.truth, TRUTH.names), part.dead)
        found: Qualities = {}
        if part.split == "train":
            for step in self.plan.steps:
                if step.stage.key.stage == "cues":
                    table = self._table(step.stage.key.directory, part)
                    found[step.title] = evaluate_cues(table, truth, self._classes)
            if self.plan.first_dcsp:
                found["cues_phase0_s1"] = self._first_pass(self.plan.first_dcsp, part, truth)
        if part.split in self.plan.labelled:
            table = self._table(self.plan.step(PREDICTIONS).stage.key.directory, part)
            qualities = evaluate_predictions(table, truth, self._classes)
            found[part.split] = qualities["label_without_crf"]
            if self.plan.config.predict.crf:
                found[f"{part.split}_crf"] = qualities["label"]
        return found

    @property
    def _classes(self) -> int:
        return len(self.plan.snapshot.classes)

    def _table(self, directory: str, part: CorpusPart) -> pa.Table:
        return live_rows(self.store.read_table(part_file(directory, part.name)), part.dead)

    def _first_pass(self, step: Step, part: CorpusPart, truth: pa.Table) -> Quality:
        """Cues of saliency with S_1 in place of S_k, from the same attention."""
        stage = step.stage
        assert isinstance(stage, DCSPStage) and stage.saliency
        corpus = ("image_id", "height", "width", "tags", "bytes")
        cues = ("status", "attention", "attention_shape")
        zipped = read_part(
            self.store,
            (
                TableInput("", CORPUS_DIRECTORY, corpus if stage.settings.crf else corpus[:-1]),
                TableInput("saliency", stage.saliency.directory, ("maps",)),
                TableInput("cue", stage.key.directory, cues),
            ),
            part.name,
        )
        rows = live_rows(zipped, part.dead)

        def labeller(index: int) -> NDArray[np.uint8]:
            row: dict[str, Any] = rows.slice(index, 1).to_pylist()[0]
            label = stage.label(row, row["cue.attention"], row["cue.attention_shape"], 1)
            return resize_labels(label, row["height"], row["width"])

        table = rows.rename_columns({"cue.status": "status"})
        return evaluate_labels(table, truth, self._classes, labeller)


def add_qualities(total: Qualities, part: Qualities) -> Qualities:
    """The qualities of two sets of parts together."""
    sums = dict(total)
    for name, quality in part.items():
        sums[name] = sums[name] + quality if name in sums else quality
    return sums


def build_metrics(
    plan: Plan,
    qualities: Mapping[str, Quality],
    seconds: Mapping[str, float],
    rows: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """``metrics.json`` of a run; mIoU in percent, 0–100, None where nothing was measured.

    Args:
        plan: The run.
        qualities: Summed over all parts.
        seconds: Stage → wall seconds of the submission that computed it.
        rows: Table → status → rows.
    """
    figures = {name: summarize(q, plan.snapshot.classes) for name, q in qualities.items()}
    cues: dict[str, Any] = {}
    for step in plan.steps:
        if step.stage.key.stage == "cues":
            cues[step.title.removeprefix("cues_")] = _cue_metrics(figures.get(step.title))
    first = figures.get("cues_phase0_s1")
    cues["phase0"]["miou_s1"] = first["miou"] if first else None
    metrics: dict[str, Any] = {"run_id": plan.run_id, "cues": cues}
    for split in plan.labelled:
        metrics[split] = _split_metrics(figures.get(split), figures.get(f"{split}_crf"))
    return metrics | {
        "seconds": dict(seconds),
        "rows": {name: dict(statuses) for name, statuses in rows.items()},
    }


def _cue_metrics(figures: Figures | None) -> dict[str, Any]:
    return {
        "miou": figures["miou"] if figures else None,
        "coverage": figures["coverage"] if figures else None,
        "figures": figures,
    }


def _split_metrics(plain: Figures | None, crf: Figures | None) -> dict[str, Any]:
    best = crf or plain
    return {
        "miou": plain["miou"] if plain else None,
        "miou_crf": crf["miou"] if crf else None,
        "accuracy": best["accuracy"] if best else None,
        "images": best["images"] if best else 0,
        "failed": best["failed"] if best else 0,
        "per_class": {name: c["iou"] for name, c in best["per_class"].items()} if best else {},
        "figures": {"without_crf": plain, "with_crf": crf},
    }
