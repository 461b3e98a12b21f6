"""From the tables of a run to the cards of a report, part by part and in several threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcsp.evaluation.truth import read_truth
from dcsp.inference.table import CORRECTED
from dcsp.labels import IGNORE
from dcsp.methods.registry import method_of
from dcsp.report.choice import Chosen
from dcsp.report.data import Card
from dcsp.report.earlier import Earlier
from dcsp.report.gallery import agreement, class_name
from dcsp.report.layers import Pictures, longest_side
from dcsp.report.panels import decode_image
from dcsp.run.plan import Plan
from dcsp.stages.parts import CORPUS_INPUT, TableInput, live_rows, read_part
from dcsp.stages.step import Role
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, decode_map, decode_maps
from dcsp.tables.snapshot import TRAIN

PICTURES = 17_000_000
"""Bytes that the pictures of a page may take together: a page of less than 30 MB, as base64 takes a
third more, and 5,000 images some 5 MB of text."""
_FULL_MOST, _OTHER_MOST = 160_000, 14_000
"""Bytes of an image at full size, and of another: beyond, nobody sees more."""
_THREADS = 4
"""Parts that are read and drawn at once; each is held whole."""

Labels = NDArray[np.uint8]
_Mapped = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class CardReader:
    """Reads the cards of a run.

    Attributes:
        store: Of the run.
        plan: The run.
        before: Labels to compare with; None: of no run.
    """

    store: Store
    plan: Plan
    before: Earlier | None = None

    def cards(self, chosen: Sequence[Chosen]) -> list[Card]:
        """Cards of the images, the least trusted first, those without a score last.

        Raises:
            StoreError: A table of the run is not there.
        """
        full = sum(len(of_part.full) for of_part in chosen)
        others = sum(len(of_part.others) for of_part in chosen)
        full_most, other_most = most_bytes(full, others)

        def read(of_part: Chosen) -> list[Card]:
            return list(self._cards(of_part, full_most, other_most))

        with read_ahead(read, chosen, _THREADS, _THREADS) as found:
            cards = [card for of_part in found for card in of_part]
        unknown = 2.0
        return sorted(cards, key=lambda c: (unknown if c.trust is None else c.trust, c.image_id))

    def _cards(self, chosen: Chosen, full_most: int, other_most: int) -> Iterator[Card]:
        """Of a part, which is read once."""
        part = chosen.part
        inputs = self._inputs(part.split, bool(chosen.full))
        zipped = live_rows(read_part(self.store, inputs, part.name), part.dead)
        seen_small = [
            of_table.column(column)
            for of_table in self._inputs(part.split, False)
            for column in of_table.columns
        ]
        small = zipped.select(seen_small)
        truth: list[bytes | None] = [None] * zipped.num_rows
        if (masks := read_truth(self.store, part, self.plan.snapshot.masks)) is not None:
            truth = live_rows(masks, part.dead)["label"].to_pylist()
        rows = (*chosen.full, *chosen.others)
        ids = [str(id_) for id_ in zipped["image_id"].take(rows).to_pylist()]
        before = self.before.of(part.name, ids) if self.before else {}
        for place, position in enumerate(rows):
            is_full = place < len(chosen.full)
            table, most = (zipped, full_most) if is_full else (small, other_most)
            row = table.slice(position, 1).to_pylist()[0]
            mask = truth[position]
            yield self._card(part.split, row, decode_labels(mask) if mask else None, before, most)

    def _card(
        self,
        split: str,
        row: Mapping[str, Any],
        truth: Labels | None,
        before: Mapping[str, bytes | None],
        most: int,
    ) -> Card:
        label = row.get("prediction.label")
        published = decode_labels(label) if label else None
        own = _first_label(row, "prediction.label_network", "prediction.label_without_crf")
        labels = {"published": published, "ground truth": truth, "network": own}
        for phase in range(len(self.plan.cue_steps)):
            labels[f"cue {phase}"] = _first_label(row, f"cue{phase}.label")
        change = None
        if self.before and row["image_id"] in before:
            change = self.before.change(before[row["image_id"]], label)
            if change.share and change.before is not None:  # 255: classes of that run alone
                is_strange = change.before > len(self.plan.config.corpus.classes)
                earlier = np.where(is_strange, np.uint8(IGNORE), change.before)
                labels["published before"] = earlier
        pictures = Pictures(
            decode_image(row, self.plan.config.corpus.max_pixels, longest_side(most)),
            {title: found for title, found in labels.items() if found is not None},
            change.where if change and change.share else None,
            self._saliency(row),
            self._attention(row),
        )
        classes = row.get("trust.classes") or ()
        return Card(
            row["image_id"],
            split,
            row["tags"],
            shown=_shown(published),
            trust=row.get("trust.score"),
            iou=agreement(published, truth),
            changed=change.share if change else None,
            reasons=[(told["class"], why) for told in classes for why in told["reasons"]],
            is_corrected=row.get("prediction.rule") == CORRECTED,
            error=next((row[name] for name in row if name.endswith(".error") and row[name]), None),
            layers=pictures.layers(most),
        )

    def _saliency(self, row: Mapping[str, Any]) -> _Mapped:
        maps, words = row.get("saliency.maps") or [], method_of(self.plan.config).words
        numbers = sorted({1, len(maps)}) if maps else []
        return {words.map_title(number): decode_map(maps[number - 1]) for number in numbers}

    def _attention(self, row: Mapping[str, Any]) -> _Mapped:
        attention = row.get("cue0.attention")
        if not attention:
            return {}
        names = [class_name(tag, self.plan.snapshot.classes) for tag in row["tags"]]
        maps = decode_maps(attention, row["cue0.attention_shape"])
        return {f"attention, {name}": map_ for name, map_ in zip(names, maps, strict=False)}

    def _inputs(self, split: str, is_full: bool) -> tuple[TableInput, ...]:
        """What is read of a part; of images that are shown small, no maps and no cues."""
        plan, tables = self.plan, [CORPUS_INPUT]
        if split == TRAIN and is_full:
            for step in plan.of(Role.MAPS)[:1]:
                tables.append(TableInput("saliency", step.stage.key.directory, ("maps", "error")))
            for phase, step in enumerate(plan.cue_steps):
                columns = ("label", "attention", "attention_shape", "error")
                tables.append(TableInput(f"cue{phase}", step.stage.key.directory, columns))
        if split in plan.labelled:
            directory = plan.of(Role.PREDICTIONS)[0].stage.key.directory
            own = ("label_network", "label_without_crf") if is_full else ()
            tables.append(TableInput("prediction", directory, ("label", "rule", *own, "error")))
            for step in plan.of(Role.TRUST):
                tables.append(TableInput("trust", step.stage.key.directory, ("score", "classes")))
        return tuple(tables)


def most_bytes(full: int, others: int) -> tuple[int, int]:
    """Bytes that the pictures of an image at full size, and of one that is shown small, may take.

    Args:
        full: Images at full size.
        others: Images that are shown small.
    """
    of_full = min(_FULL_MOST, PICTURES // (2 * max(1, full)))
    return of_full, min(_OTHER_MOST, (PICTURES - full * of_full) // max(1, others))


def _first_label(row: Mapping[str, Any], *columns: str) -> Labels | None:
    return next((decode_labels(row[name]) for name in columns if row.get(name)), None)


def _shown(labels: Labels | None) -> list[int]:
    if labels is None:
        return []
    counts = np.bincount(labels.ravel(), minlength=256)[1:255]
    return (np.flatnonzero(counts) + 1).tolist()
