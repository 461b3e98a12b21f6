"""All that a run made of one image, step by step, read from its tables.

Nothing is computed but what no table keeps: the fused map, and a cue before its CRF, by the stage
that mined it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from dcsp.cues.dcsp import DCSPStage
from dcsp.cues.stage import EvidenceStage
from dcsp.cues.table import tagged_corpus
from dcsp.errors import DcspError, StoreError
from dcsp.evaluation.truth import read_truth
from dcsp.inference.table import CORRECTED
from dcsp.report.gallery import class_name
from dcsp.report.panels import (
    Picture,
    decode_image,
    heat,
    overlay_attention,
    overlay_labels,
    shrink,
)
from dcsp.run.plan import Plan
from dcsp.run.record import load_run
from dcsp.stages.parts import read_part
from dcsp.stages.stage import Stage
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, decode_map, decode_maps
from dcsp.tables.layout import CHECKPOINTS, CORPUS_DIRECTORY, part_file
from dcsp.tables.schemas import OK
from dcsp.tables.snapshot import CorpusPart, Snapshot
from dcsp.text import title
from dcsp.trust.score import told_reasons

Row = Mapping[str, Any]


class TableRow(NamedTuple):
    """What a table has of the image.

    Attributes:
        title: Of the step.
        directory: Of the table.
        status: ``ok``, ``skipped`` or ``error``.
        error: Why.
    """

    title: str
    directory: str
    status: str
    error: str


class Area(NamedTuple):
    """One class of the published label.

    Attributes:
        class_id: Its id.
        share: Of the pixels of the image, in [0, 1].
        confidence: Mean probability of these pixels, in [0, 1].
    """

    class_id: int
    share: float
    confidence: float


@dataclass(frozen=True, eq=False)
class Sheet:
    """One image and all that was made of it.

    Attributes:
        image_id: Id of the image.
        run_id: The run.
        facts: Name and value of what is known of the image.
        classes: Class names in id order, those of distractors last.
        tags: Class ids, sorted.
        panels: Title → HWC uint8 RGB, in the order in which the run made them.
        rows: What each table has of it, in the order of the steps.
        rule: How the published label was made; empty where there is none.
        areas: Classes of the published label.
        trust: Score in [0, 1] and reasons; None where the run has no such table.
        notes: What could not be shown, and why.
    """

    image_id: str
    run_id: str
    facts: Sequence[tuple[str, str]]
    classes: Sequence[str]
    tags: Sequence[int]
    panels: Mapping[str, Picture]
    rows: Sequence[TableRow]
    rule: str
    areas: Sequence[Area]
    trust: tuple[float, Sequence[str]] | None
    notes: Sequence[str]


def read_sheet(store: Store, record: Row, image_id: str, part: CorpusPart, row: int) -> Sheet:
    """Read one image of a run; of each table its part alone.

    Args:
        store: The store.
        record: ``run.json`` of the run.
        image_id: Id of the image.
        part: The part of the corpus that the image is in.
        row: Its position there.

    Raises:
        StoreError: A table cannot be read.
    """
    return _Reader(store, record, image_id, part, row).sheet()


class _Reader:
    """Reads one image of a run."""

    def __init__(
        self, store: Store, record: Row, image_id: str, part: CorpusPart, row: int
    ) -> None:
        self._store, self._record = store, record
        self._image_id, self._part, self._row = image_id, part, row
        self._snapshot = Snapshot.load(store, record["snapshot"])
        corpus = self._of(CORPUS_DIRECTORY)
        assert corpus is not None, "the corpus has every part"
        self._corpus = corpus
        self._image = decode_image(dict(corpus), corpus["height"] * corpus["width"])
        self._picture = shrink(self._image)
        self._notes: list[str] = []
        self._compared = {  # no label rests on them
            step["directory"] for step in record["steps"] if step.get("role") == Role.COMPARED.value
        } - {step["directory"] for step in record["steps"] if step.get("role") == Role.CUES.value}
        self._steps = [
            (str(step["title"]), str(step["directory"]), found)
            for step in record["steps"]
            if not step["directory"].startswith(f"{CHECKPOINTS}/")
            and (found := self._of(step["directory"])) is not None
        ]

    def sheet(self) -> Sheet:
        corpus = self._corpus
        labelled = next((row for _, _, row in self._steps if "areas" in row), {})
        trust = next((row for name, _, row in self._steps if name == Role.TRUST.value), {})
        size = corpus["height"] * corpus["width"]
        panels = dict(self._panels())
        return Sheet(
            image_id=self._image_id,
            run_id=self._record["run_id"],
            facts=[
                ("split", corpus["split"]),
                ("size", f"{corpus['height']} high, {corpus['width']} wide"),
                ("source", corpus["uri"]),
                ("part", f"{self._part.name}, row {self._row}"),
                ("sha256", corpus["sha256"]),
            ],
            classes=self._snapshot.classes,
            tags=corpus["tags"],
            panels=panels,
            rows=[
                TableRow(name, directory, row["status"], row["error"] or "")
                for name, directory, row in self._steps
            ],
            rule=labelled.get("rule") or "",
            areas=[
                Area(area["class"], area["pixels"] / size, area["confidence"])
                for area in labelled.get("areas") or ()
            ],
            trust=self._trust(trust) if trust.get("status") == OK else None,
            notes=self._notes,
        )

    def _trust(self, row: Row) -> tuple[float, Sequence[str]]:
        """Score of the image, and what lowers it."""
        reasons = [
            (class_name(found["class"], self._snapshot.classes), reason)
            for found in row["classes"]
            for reason in found["reasons"]
        ]
        return row["score"], told_reasons(reasons)

    def _of(self, directory: str) -> Row | None:
        """The row of a table; None where it has not the part: it is made of other splits."""
        file = part_file(directory, self._part.name)
        if not self._store.exists(file):
            return None
        row: Row = self._store.read_table(file).slice(self._row, 1).to_pylist()[0]
        if row["image_id"] != self._image_id:
            raise StoreError(
                f"{self._store.path(file)} does not hold the rows of its corpus part: remove it "
                "and submit the job again."
            )
        return row

    def _panels(self) -> Iterator[tuple[str, Picture]]:
        yield "image", self._picture
        for name, directory, row in self._steps:
            if maps := row.get("maps"):
                for number, data in enumerate(maps, 1):
                    told = f"S_{number}" if name == "saliency" else f"{title(name)}: map {number}"
                    yield told, heat(decode_map(data), *self._picture.shape[:2])
            elif "attention" in row and directory not in self._compared:
                yield from self._cue_panels(name, directory, row)
            elif "label_without_crf" in row:
                yield from self._prediction_panels(row)
        yield from self._truth_panel()

    def _cue_panels(self, name: str, directory: str, row: Row) -> Iterator[tuple[str, Picture]]:
        """Attention of each tag, fused map, and label of one cue table."""
        told = title(name)
        stage = self._stages.get(directory)
        if row["attention"]:
            attention = decode_maps(row["attention"], row["attention_shape"])
            for tag, one in zip(row["tags"], attention, strict=True):
                caption = f"{told}: attention of {class_name(tag, self._snapshot.classes)}"
                yield caption, heat(one, *self._picture.shape[:2])
            if isinstance(stage, EvidenceStage):
                yield from self._recomputed(told, stage)
        if row["label"]:
            yield told, self._labels(row["label"])

    def _recomputed(self, told: str, stage: EvidenceStage) -> Iterator[tuple[str, Picture]]:
        """What no table keeps, by the stage that mined the cue."""
        inputs = (*tagged_corpus(stage.selftags), *stage.evidence_inputs)
        table = read_part(self._store, inputs, self._part.name)
        row = table.slice(self._row, 1).to_pylist()[0]
        fused = overlay_attention(self._picture, stage.evidence(row), row["tags"])
        yield f"{told}: fused", fused
        if isinstance(stage, DCSPStage) and stage.settings.crf:
            plain = replace(stage, settings=stage.settings.model_copy(update={"crf": False}))
            before = plain.label(row, row["start.attention"], row["start.attention_shape"])
            yield f"{told}: before the CRF", overlay_labels(self._picture, before)

    def _prediction_panels(self, row: Row) -> Iterator[tuple[str, Picture]]:
        for caption, column in (
            ("network, without CRF", "label_without_crf"),
            ("network, with CRF", "label_network"),
        ):
            if row.get(column):
                yield caption, self._labels(row[column])
        if row["label"]:
            rule = row.get("rule") or "the network"
            how = "corrected by a person" if rule == CORRECTED else f"by {rule}"
            yield f"published, {how}", self._labels(row["label"])

    def _truth_panel(self) -> Iterator[tuple[str, Picture]]:
        masks = read_truth(self._store, self._part, self._snapshot.masks)
        if masks is None:
            return
        mask = masks.slice(self._row, 1).to_pylist()[0]
        if mask["status"] != OK:
            self._notes += [f"ground truth: {mask['error']}"] if mask["error"] else []
            return
        labels = decode_labels(mask["label"])
        if labels.shape == (self._corpus["height"], self._corpus["width"]):
            yield "ground truth", overlay_labels(self._picture, labels)
        else:
            self._notes.append("ground truth: the mask is not of the image's size")

    def _labels(self, data: bytes) -> Picture:
        return overlay_labels(self._picture, decode_labels(data))

    @cached_property
    def _stages(self) -> Mapping[str, Stage]:
        """Directory → stage of each step; none where this version lays the run out otherwise."""
        plan = self._plan()
        return {step.stage.key.directory: step.stage for step in plan} if plan else {}

    def _plan(self) -> Plan | None:
        try:
            return load_run(self._store, self._record["run_id"])[1]
        except (DcspError, LookupError) as error:
            self._notes.append(f"fused maps are not shown: {error}")
            return None
