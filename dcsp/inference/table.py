"""The predictions table: pixel labels of every image, with and without the CRF (method 1.8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.config import PrecisionSettings, PredictSettings, RunConfig
from dcsp.images.decode import decode_rgb
from dcsp.images.resize import limit_side, resize_labels, resize_rgb
from dcsp.inference.multiscale import Views, prepare, score_views
from dcsp.inference.prediction import list_areas, mean_confidences, predict_labels
from dcsp.inference.scores import to_half
from dcsp.labels import BACKGROUND, IGNORE, hide_labels
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.stages.parts import CORPUS_INPUT, TableInput
from dcsp.stages.rows import infer_rows
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, encode_labels, pack_array, unpack_array
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import HEAD_COLUMNS, PREDICTIONS, corrected

VERSION = 3
NETWORK = "network"
"""Rule of a label that the network made alone."""
CORRECTED = "corrected"
"""Rule of a label that a person drew."""


class Labelled(NamedTuple):
    """Labels of an image whose tags are known.

    Attributes:
        rule: How they were made.
        label: HW uint8: background, a tag, or 255.
        ids: The id of each map of ``probabilities``.
        probabilities: LHW float32 in [0, 1], before saliency and CRF.
    """

    rule: str
    label: NDArray[np.uint8]
    ids: Sequence[int]
    probabilities: NDArray[np.float32]


class Rule(Protocol):
    """How images with given tags are labelled; see :class:`dcsp.cues.published.PublishedRule`."""

    @property
    def decides(self) -> Mapping[str, Any]:
        """What of it decides a label, as JSON values."""
        ...

    @property
    def reads(self) -> Mapping[str, str]:
        """Name of a table that it reads → fingerprint."""
        ...

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """What it reads beside the corpus."""
        ...

    def label(
        self,
        row: Mapping[str, Any],
        scores: NDArray[np.float32],
        size: tuple[int, int],
        image: Callable[[], NDArray[np.uint8]],
    ) -> Labelled:
        """Label an image with tags, at the size the network saw it at."""
        ...


@dataclass(frozen=True)
class PredictionStage(TableStage):
    """Fused views, probabilities, CRF, argmax; and for images with given tags another rule.

    Attributes:
        settings: Views, CRF.
        precision: Arithmetic.
        max_side: Longest side the network sees an image at.
        max_pixels: Decoding limit.
        network: Directory of the checkpoint whose network is used; it ends in its fingerprint.
        model_store: Store that holds the network, where it is not the store of the table.
        rule: Of images with given tags; None: the network labels them alone, too.
        classes: Number of classes that labels may show, where the network knows distractors too.
        distractors_are: What their pixels are: ``background`` or ``ignored``.
        corrections: Key of the labels that people corrected, which are published as they are.
    """

    settings: PredictSettings
    precision: PrecisionSettings
    max_side: int | None
    max_pixels: int
    network: str
    model_store: Store | None = None
    rule: Rule | None = None
    classes: int | None = None
    distractors_are: str = "background"
    corrections: StageKey | None = None

    @classmethod
    def of(
        cls,
        config: RunConfig,
        network: str,
        model_store: Store | None = None,
        rule: Rule | None = None,
        corrections: StageKey | None = None,
    ) -> PredictionStage:
        """By the settings of a run."""
        corpus = config.corpus
        return cls(
            config.predict,
            config.precision,
            config.network.max_side,
            corpus.max_pixels,
            network,
            model_store,
            rule,
            len(corpus.classes) if corpus.distractors else None,
            corpus.distractors_are,
            corrections,
        )

    @property
    def schema(self) -> pa.Schema:
        """Schema of the table."""
        return corrected(PREDICTIONS) if self.corrections else PREDICTIONS

    @cached_property
    def key(self) -> StageKey:
        """Settings and network decide the predictions; which splits are labelled does not."""
        settings = self.settings.model_dump(mode="json", exclude={"splits", "tags"})
        if not self.settings.crf:
            del settings["crf_settings"]
        return StageKey(
            "predictions",
            VERSION,
            settings={
                **settings,
                "precision": self.precision.model_dump(mode="json"),
                **(self.rule.decides if self.rule else {}),
                **(
                    {"classes": self.classes, "distractors_are": self.distractors_are}
                    if self.classes
                    else {}
                ),
            },
            inputs={
                "network": PurePosixPath(self.network).name,
                **(self.rule.reads if self.rule else {}),
                **({"corrections": self.corrections.fingerprint} if self.corrections else {}),
            },
        )

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """The corpus with its splits, and what the rule reads."""
        columns = (*CORPUS_INPUT.columns, "split")
        own = TableInput(CORPUS_INPUT.name, CORPUS_INPUT.directory, columns)
        found = [own, *(self.rule.inputs if self.rule else ())]
        if self.corrections:
            columns = ("train", "measure")
            found.append(TableInput("correction", self.corrections.directory, columns))
        return tuple(found)

    def load(self, store: Store, device: Device) -> PartModel:
        """Load the network; the model adds fused scores to the rows."""
        network = prepare(
            load_checkpoint(self.model_store or store, self.network, SegmentationNetwork),
            self.precision,
            device.name,
        )
        views = Views.of(self.settings)

        def infer(images: list[NDArray[np.uint8]], _: list[int]) -> list[bytes]:
            maps = score_views(
                network,
                images,
                views,
                max_side=self.max_side,
                precision=self.precision,
                device=device.name,
            )
            return [pack_array(to_half(scores)) for scores in maps]

        def model(rows: pa.Table) -> pa.Table:
            results = infer_rows(rows, self._seen, infer, device=device)
            return results.onto(rows)

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        """Upsample, probabilities, CRF, encode."""
        return pa.Table.from_pylist([self._row(row) for row in rows.to_pylist()], self.schema)

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row of the table: a correction is published, whatever the run made of the image."""
        made = self._made(row)
        drawn = row.get("correction.train") or row.get("correction.measure")
        if not drawn or "label" not in made:
            return made
        label = self._shown(decode_labels(drawn))
        certain = dict.fromkeys(np.setdiff1d(label, [IGNORE]).tolist(), 1.0)
        return made | {
            "label": encode_labels(label),
            "rule": CORRECTED,
            "areas": list_areas(label, certain),
            "uncorrected": {name: made[name] for name in ("label", "rule", "areas")},
        }

    def _made(self, row: dict[str, Any]) -> dict[str, Any]:
        kept = {name: row[name] for name in (*HEAD_COLUMNS, "tags", "status", "error")}
        if row["raw"] is None:
            return kept
        scores = unpack_array(row["raw"]).astype(np.float32)
        height, width = row["height"], row["width"]
        image = cache(lambda: self._decode(row["bytes"]))
        tagged = bool(self.rule and row["tags"])
        settings = (
            self._plain if tagged and not self.settings.refines(row["split"]) else self.settings
        )
        own = predict_labels(scores, height, width, settings, image, self.max_side)
        plain = encode_labels(self._shown(own.label_without_crf))
        network = encode_labels(self._shown(own.label)) if settings.crf else None
        kept |= {"label_network": network, "label_without_crf": plain}
        if tagged:
            return kept | self._by_rule(row, scores, image)
        confidences = {area["class"]: area["confidence"] for area in own.areas}
        areas = list_areas(self._shown(own.label), confidences) if self.classes else own.areas
        return kept | {"label": network or plain, "rule": NETWORK, "areas": areas}

    def _shown(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A label as it is published: without distractors."""
        if self.classes is None:
            return label
        value = BACKGROUND if self.distractors_are == "background" else IGNORE
        return hide_labels(label, self.classes, value)

    def _by_rule(
        self,
        row: dict[str, Any],
        scores: NDArray[np.float32],
        image: Callable[[], NDArray[np.uint8]],
    ) -> dict[str, Any]:
        """Label, rule and areas of an image with tags."""
        assert self.rule is not None
        height, width = row["height"], row["width"]
        inner = limit_side(height, width, self.max_side)
        found = self.rule.label(row, scores, inner, lambda: resize_rgb(image(), *inner))
        confidences = mean_confidences(found.label, found.probabilities, found.ids)
        label = self._shown(resize_labels(found.label, height, width))
        return {
            "label": encode_labels(label),
            "rule": found.rule,
            "areas": list_areas(label, confidences),
        }

    @cached_property
    def _plain(self) -> PredictSettings:
        """The settings without the CRF."""
        return self.settings.model_copy(update={"crf": False})

    def _seen(self, data: bytes) -> NDArray[np.uint8]:
        """The image as the network sees it at scale 1; many such wait for their batch."""
        image = self._decode(data)
        size = limit_side(image.shape[0], image.shape[1], self.max_side)
        return image if image.shape[:2] == size else resize_rgb(image, *size)

    def _decode(self, data: bytes) -> NDArray[np.uint8]:
        return decode_rgb(data, self.max_pixels)
