"""Evaluation of a whole run, part by part: the only stage that reads ground truth.

Parts are compared one by one on any worker; their qualities add up to the run's figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.cues.stage import CueStage, Relabelling
from dcsp.evaluation.quality import (
    Figures,
    LabelColumn,
    Quality,
    evaluate_labels,
    evaluate_table,
    summarize,
)
from dcsp.evaluation.trust import TrustCounter, TrustSums
from dcsp.evaluation.truth import measured, read_truth
from dcsp.images.resize import resize_labels
from dcsp.run.plan import Plan
from dcsp.stages.parts import live_rows, read_part
from dcsp.stages.stage import Stage
from dcsp.stages.step import Role, Step
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels
from dcsp.tables.layout import part_file
from dcsp.tables.schemas import HEAD_COLUMNS, OK
from dcsp.tables.snapshot import TRAIN, CorpusPart

Qualities = dict[str, Quality]
"""What was measured → its summable quality: ``cues_phase0``, ``cues_phase0_s1``, ``val`` and
``val_crf`` (the network's own labels), ``val_published``, ``corrected_cues`` (compared with what
people drew) …"""
_FIRST_PASS, _CRF, _PUBLISHED = "_s1", "_crf", "_published"
_CORRECTED, _AGAINST_CORRECTIONS = "corrected_", ("cues", "network", "labels")


class PartFigures(NamedTuple):
    """What is known of one part.

    Attributes:
        qualities: How its tables compare with its ground truth; empty where it has none.
        trust: What its trust table says, compared with its ground truth; None without a table.
    """

    qualities: Qualities
    trust: TrustSums | None


@dataclass(frozen=True)
class Evaluator:
    """Counts the trust of one part, and compares its tables with its ground truth; picklable."""

    store: Store
    plan: Plan

    @property
    def parts(self) -> list[CorpusPart]:
        """The parts that there is something to say of: by masks, corrections or trust."""
        rated = self.plan.labelled if self.plan.of(Role.TRUST) else ()
        if self.plan.of(Role.CORRECTIONS):
            rated = (*rated, TRAIN)
        return [part for part in self.plan.snapshot.parts if part.truth or part.split in rated]

    def __call__(self, part: CorpusPart) -> PartFigures:
        """The figures of one part."""
        trust = self._trust(part)
        table = read_truth(self.store, part, self.plan.snapshot.masks)
        found: Qualities = {}
        if table is not None:
            found = self._qualities(part, live_rows(table, part.dead), trust)
        for step in (s for s in self.plan.of(Role.CORRECTIONS) if part.split in s.splits):
            drawn = self._table(step.stage.key.directory, part, (*HEAD_COLUMNS, "measure"))
            masks = measured(drawn, table, part.dead)
            if pc.any(pc.equal(masks["status"], pa.scalar(OK))).as_py():
                found |= self._against_corrections(part, masks, trust)
        return PartFigures(found, trust.sums if trust else None)

    def _trust(self, part: CorpusPart) -> TrustCounter | None:
        """The trust of the published labels of a part."""
        steps = self.plan.of(Role.TRUST)
        if not steps or part.split not in self.plan.labelled:
            return None
        rows = self._table(steps[0].stage.key.directory, part).to_pylist()
        return TrustCounter(rows, self._classes)

    def _qualities(
        self, part: CorpusPart, truth: pa.Table, trust: TrustCounter | None
    ) -> Qualities:
        found: Qualities = {}
        if part.split == TRAIN:
            for step in cue_tables(self.plan):
                table = self._table(step.stage.key.directory, part)
                found[step.title] = evaluate_table(table, truth, self._classes)
                if of_first_pass := first_pass(step):
                    quality = self._relabelled(of_first_pass, part, truth)
                    found[step.title + _FIRST_PASS] = quality
        if part.split in self.plan.labelled:
            table = self._table(self.plan.of(Role.PREDICTIONS)[0].stage.key.directory, part)
            columns: dict[str, LabelColumn] = {"": "label_without_crf", _PUBLISHED: "label"}
            if self.plan.config.predict.refines(part.split):
                columns[_CRF] = "label_network"
            for ending, column in columns.items():
                each = [trust.compare] if trust and ending == _PUBLISHED else []
                quality = evaluate_table(table, truth, self._classes, column, *each)
                found[part.split + ending] = quality
        return found

    def _against_corrections(
        self, part: CorpusPart, truth: pa.Table, trust: TrustCounter | None
    ) -> Qualities:
        """Labels that were made without the corrections that they are compared with."""
        found: Qualities = {}
        if part.split == TRAIN:
            table = self._table(self.plan.cue_steps[-1].stage.key.directory, part)
            found[_CORRECTED + "cues"] = evaluate_table(table, truth, self._classes)
        if part.split in self.plan.labelled:
            table = self._table(self.plan.of(Role.PREDICTIONS)[0].stage.key.directory, part)
            made = table["uncorrected"]

            def labeller(row: int) -> NDArray[np.uint8]:
                return decode_labels(made[row].as_py()["label"])

            found[_CORRECTED + "network"] = evaluate_table(
                table, truth, self._classes, "label_without_crf"
            )
            each = [trust.compare_uncorrected] if trust else []
            found[_CORRECTED + "labels"] = evaluate_labels(
                table, truth, self._classes, labeller, *each
            )
        return found

    @property
    def _classes(self) -> int:
        return len(self.plan.config.corpus.classes)

    def _table(
        self, directory: str, part: CorpusPart, columns: Sequence[str] | None = None
    ) -> pa.Table:
        table = self.store.read_table(part_file(directory, part.name), columns)
        return live_rows(table, part.dead)

    def _relabelled(self, other: Relabelling, part: CorpusPart, truth: pa.Table) -> Quality:
        """The quality of other labels from the same tables."""
        rows = live_rows(read_part(self.store, other.inputs, part.name), part.dead)

        def labeller(index: int) -> NDArray[np.uint8]:
            row: dict[str, Any] = rows.slice(index, 1).to_pylist()[0]
            return resize_labels(other.label(row), row["height"], row["width"])

        table = rows.rename_columns({"start.status": "status"})
        return evaluate_labels(table, truth, self._classes, labeller)


def cue_tables(plan: Plan) -> list[Step[Stage]]:
    """The steps of a plan whose tables are measured as cues."""
    return [step for step in plan if step.role.is_cues]


def first_pass(step: Step[Stage]) -> Relabelling | None:
    """How the cues that start a run would be with one pass of the detector alone (paper 4.2).

    None of other cues: those of later phases, and those that no hierarchy of saliency made.
    """
    starts = step.role is Role.START or (step.role is Role.CUES and step.phase == 0)
    return step.stage.first_pass() if starts and isinstance(step.stage, CueStage) else None


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
    figures = {name: summarize(q, plan.config.corpus.classes) for name, q in qualities.items()}
    cues: dict[str, Any] = {}
    for step in cue_tables(plan):
        cues[step.name] = _cue_metrics(figures.get(step.title))
        if first_pass(step) or (step.role is Role.CUES and step.phase == 0):
            first = figures.get(step.title + _FIRST_PASS)
            cues[step.name]["miou_s1"] = first["miou"] if first else None
    metrics: dict[str, Any] = {"run_id": plan.run_id, "cues": cues}
    for split in plan.labelled:
        metrics[split] = _split_metrics(figures.get(split), figures.get(split + _CRF))
        published = figures.get(split + _PUBLISHED)
        metrics[split]["miou_published"] = published["miou"] if published else None
        metrics[split]["figures"]["published"] = published
    if plan.of(Role.CORRECTIONS):
        metrics["corrections"] = {n: figures.get(_CORRECTED + n) for n in _AGAINST_CORRECTIONS}
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
