"""The table of self-tags, and the thresholds that are calibrated before its first part is made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dcsp.selftags.calibration import ScoreCounts, Thresholds
from dcsp.selftags.scores import TagScorer, TagScoreStage, with_results
from dcsp.stages.columns import read_columns
from dcsp.stages.parts import scope
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import THRESHOLDS_FILE
from dcsp.tables.schemas import OK, SELFTAGS
from dcsp.tables.snapshot import TRAIN, VAL, Snapshot

VERSION = 1


def thresholds_file(key: StageKey) -> str:
    """File of the thresholds of a table of self-tags."""
    return f"{key.directory}/{THRESHOLDS_FILE}"


def read_thresholds(store: Store, key: StageKey) -> Thresholds:
    """The thresholds of a table of self-tags.

    Raises:
        StoreError: They are not there.
    """
    return Thresholds.from_dict(store.read_json(thresholds_file(key)))


@dataclass(frozen=True)
class SelfTagStage(TableStage):
    """Self-tags of untagged training images; given tags are carried along and never changed.

    Attributes:
        scorer: Scores images.
        calibrated_on: Names the calibration images: scope of their parts.
    """

    scorer: TagScorer
    calibrated_on: str

    schema = SELFTAGS

    @cached_property
    def key(self) -> StageKey:
        """The network, the calibration images and what is asked of thresholds decide self-tags."""
        settings = self.scorer.config.selftags
        asked = {"precision": settings.precision, "min_support": settings.min_support}
        inputs = {"network": self.scorer.network.fingerprint, "calibration": self.calibrated_on}
        return StageKey("selftags", VERSION, {"asked": asked, **self.scorer.key}, inputs)

    def load(self, store: Store, device: Device) -> PartModel:
        """Load network and thresholds; images with given tags are skipped."""
        score, thresholds = self.scorer.load(store, device), read_thresholds(store, self.key)

        def model(rows: pa.Table) -> pa.Table:
            wanted = [not tags for tags in rows["tags"].to_pylist()]
            results = score(rows, wanted)
            found = [None if v is None else thresholds.self_tags(v) for v in results.values]
            column = pa.array(found, pa.list_(pa.int16()))
            return with_results(rows, results).append_column("selftags", column)

        return model


@dataclass(frozen=True)
class Calibration:
    """Finds the thresholds of a table of self-tags, once, before its first part.

    It holds what is read as a snapshot and no list of its own: plans travel to many tasks.

    Attributes:
        stage: Of the self-tags.
        scores: Of the tagged images.
        snapshot: The corpus that the network learned from.
        split: Whose tagged images are calibrated on.
    """

    stage: SelfTagStage
    scores: TagScoreStage
    snapshot: Snapshot
    split: str

    @classmethod
    def of(cls, scorer: TagScorer, snapshot: Snapshot) -> Calibration:
        """By the settings: held-out images where there are any."""
        asked = scorer.config.selftags.calibrate
        split = asked or (VAL if snapshot.of([VAL]) else TRAIN)
        stage = SelfTagStage(scorer, scope(snapshot.of([split])))
        return cls(stage, TagScoreStage(scorer), snapshot, split)

    def __call__(self, store: Store) -> str:
        """Write the thresholds where they are not there; returns one line that tells of them.

        Raises:
            StoreError: A part of the scores is not there.
        """
        file = thresholds_file(self.stage.key)
        if not store.exists(file):
            store.write_json(file, self.thresholds(store).as_dict())
        return read_thresholds(store, self.stage.key).told

    def thresholds(self, store: Store) -> Thresholds:
        """From the scores of all calibration images, of which a few parts are held at once."""
        classes, settings = self.snapshot.classes, self.stage.scorer.config.selftags
        parts, directory = self.snapshot.of([self.split]), self.scores.key.directory
        counts = ScoreCounts.empty(len(classes))
        for rows in read_columns(store, directory, parts, ("tags", "scores", "status")):
            counts += ScoreCounts.of(*scored(rows, len(classes)))
        return Thresholds.find(
            counts, classes, self.split, settings.precision, settings.min_support
        )


def scored(rows: pa.Table, classes: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores (N×C float32) and given tags (N×C) of the rows that have scores."""
    known = rows.filter(pc.equal(rows["status"], pa.scalar(OK)))
    scores = pc.list_flatten(known["scores"]).to_numpy().reshape(known.num_rows, classes)
    tagged = np.zeros(scores.shape, bool)
    tags = known["tags"].combine_chunks()
    tagged[pc.list_parent_indices(tags).to_numpy(), pc.list_flatten(tags).to_numpy() - 1] = True
    return scores, tagged
