"""The trust table: what score each label has, image by image, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from dcsp.images.resize import resize_map
from dcsp.labels import BACKGROUND
from dcsp.stages.parts import TableInput
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, decode_map
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import CORPUS_DIRECTORY
from dcsp.tables.schemas import HEAD_COLUMNS, OK, TRUST, corrected
from dcsp.tables.snapshot import TRAIN
from dcsp.trust.score import TrustModel, shipped_model
from dcsp.trust.signals import Seen, measure

VERSION = 2


@dataclass(frozen=True)
class TrustStage(TableStage):
    """Scores of the published labels, from what the tables of the run say of the same images.

    Attributes:
        predictions: Key of the labels.
        cues: Key of the last cues; training images alone have them.
        saliency: Key of the maps that labels were made with; None: of none.
        classes: Number of classes that labels show; tags beyond are distractors.
        model: How signals become a score.
        corrections: Key of the labels that people corrected, which are trusted.
    """

    predictions: StageKey
    cues: StageKey
    saliency: StageKey | None
    classes: int
    model: TrustModel
    corrections: StageKey | None = None

    libraries = ("numpy",)

    @classmethod
    def of(
        cls,
        predictions: StageKey,
        cues: StageKey,
        saliency: StageKey | None,
        classes: int,
        corrections: StageKey | None = None,
    ) -> TrustStage:
        """By the model of this version of dcsp."""
        return cls(predictions, cues, saliency, classes, shipped_model(), corrections)

    @property
    def schema(self) -> pa.Schema:
        """Schema of the table."""
        return corrected(TRUST) if self.corrections else TRUST

    @cached_property
    def key(self) -> StageKey:
        """The tables and the model decide the scores."""
        inputs = {
            "predictions": self.predictions,
            "cues": self.cues,
            "saliency": self.saliency,
            "corrections": self.corrections,
        }
        return StageKey(
            "trust",
            VERSION,
            settings={"classes": self.classes, "model": self.model.decides},
            inputs={name: key.fingerprint for name, key in inputs.items() if key},
        )

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """Tags, labels, cues and saliency; no image."""
        columns: tuple[str, ...] = ("label", "label_without_crf", "areas", "status", "error")
        if self.corrections:
            columns += ("uncorrected",)
        found = [
            TableInput("", CORPUS_DIRECTORY, (*HEAD_COLUMNS, "tags", "split")),
            TableInput("prediction", self.predictions.directory, columns),
            TableInput("cue", self.cues.directory, ("label",), splits=(TRAIN,)),
        ]
        if self.saliency:
            found.append(TableInput("saliency", self.saliency.directory, ("maps",)))
        return tuple(found)

    def load(self, store: Store, device: Device) -> PartModel:
        """There is no network: all of the work is :meth:`finish`."""
        return lambda rows: rows

    def finish(self, rows: pa.Table) -> pa.Table:
        """From the tables' columns to scores, row by row."""
        found = [self.row(rows.slice(number, 1).to_pylist()[0]) for number in range(rows.num_rows)]
        return pa.Table.from_pylist(found, self.schema)

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The trust of one image: a row of the table.

        Args:
            row: As :attr:`inputs` give it.
        """
        kept = {name: row[name] for name in (*HEAD_COLUMNS, "tags")}
        kept |= {"status": row["prediction.status"], "error": row["prediction.error"]}
        if kept["status"] != OK:
            return kept
        seen = self.seen(row)
        classes = self.model.classes(measure(seen), seen.tags)
        told = [
            {"class": c.class_id, "pixels": c.pixels, "score": c.score, "reasons": list(c.reasons)}
            for c in classes
        ]
        rated = {"score": self.model.score(classes), "classes": told}
        if not row.get("prediction.uncorrected"):
            return kept | rated
        drawn = [a for a in row["prediction.areas"] if a["class"] != BACKGROUND]
        sure = [
            {"class": a["class"], "pixels": a["pixels"], "score": 1.0, "reasons": []} for a in drawn
        ]
        return kept | {"score": 1.0, "classes": sure, "uncorrected": rated}

    def seen(self, row: Mapping[str, Any]) -> Seen:
        """What the tables say of an image that has a label, but for a correction of it."""
        own = {"label": row["prediction.label"], "areas": row["prediction.areas"]}
        made = row.get("prediction.uncorrected") or own
        label = decode_labels(made["label"])
        cue, maps = row["cue.label"], row.get("saliency.maps")
        return Seen(
            tags=[tag for tag in row["tags"] or () if tag <= self.classes],
            label=label,
            network=decode_labels(row["prediction.label_without_crf"]),
            confidences={area["class"]: area["confidence"] for area in made["areas"]},
            cue=decode_labels(cue) if cue else None,
            saliency=resize_map(decode_map(maps[0]), *label.shape) if maps else None,
        )
