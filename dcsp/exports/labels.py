"""The labels that a run made, part by part, with what else an export reads of the same rows."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dcsp.errors import StoreError
from dcsp.inspection.inventory import Run, directory_of
from dcsp.labels import BACKGROUND, IGNORE, hide_labels
from dcsp.stages.parts import TableInput, live_rows, read_part, stage_version
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.codecs import decode_labels, encode_labels
from dcsp.tables.schemas import RULES_SINCE
from dcsp.tables.snapshot import TRAIN, Part, Snapshot


class Labels:
    """Labels that a run made.

    Args:
        store: The store.
        run: One of its runs.
        kind: ``published``; ``network``: its own, without tags; ``cues``: those of the last phase.

    Attributes:
        snapshot: The corpus of the run.
        classes: Class names in id order, background and distractors left out.
        splits: Those that have such labels.

    Raises:
        StoreError: The run has no such labels, or its snapshot cannot be read.
    """

    def __init__(self, store: Store, run: Run, kind: str) -> None:
        corpus = run.record["config"]["corpus"]
        role = Role.CUES if kind == "cues" else Role.PREDICTIONS
        self._store = store
        self._directory = require_table(run, role)
        self._columns: tuple[str, ...] = ("label",)
        if kind == "network" and stage_version(store, self._directory) >= RULES_SINCE:
            self._columns = ("label_network", "label_without_crf")
        # Tables of cues hold distractors, for the network to learn.
        self._hides = kind == "cues" and bool(corpus.get("distractors"))
        self._hidden = BACKGROUND if corpus.get("distractors_are") == "background" else IGNORE
        self.classes: Sequence[str] = corpus["classes"]
        self.splits: Sequence[str] = (
            [TRAIN] if kind == "cues" else run.record["config"]["predict"]["splits"]
        )
        self.snapshot = Snapshot.load(store, run.record["snapshot"])

    def read(self, part: Part, beside: Sequence[TableInput] = ()) -> pa.Table:
        """The rows of a part that are in the corpus.

        Args:
            part: One of the snapshot's, of one of the splits.
            beside: What else to read of the same images.

        Returns:
            ``image_id``, ``status``, ``label`` (a palette PNG; null: none) and the columns beside.

        Raises:
            StoreError: A table cannot be read.
        """
        own = TableInput("", self._directory, ("image_id", "status", *self._columns))
        table = live_rows(read_part(self._store, [own, *beside], part.name), part.dead)
        label = pc.coalesce(*(table[column] for column in self._columns))
        if self._hides:
            shown = [data and self._without_distractors(data) for data in label.to_pylist()]
            label = pa.chunked_array([pa.array(shown, pa.binary())])
        return table.drop_columns(list(self._columns)).append_column("label", label)

    def _without_distractors(self, data: bytes) -> bytes:
        return encode_labels(hide_labels(decode_labels(data), len(self.classes), self._hidden))


def require_table(run: Run, role: Role) -> str:
    """Directory of the last table of a role that a run made.

    Raises:
        StoreError: It made none.
    """
    directory = directory_of(run, role)
    if directory is None:
        raise StoreError(f"The run {run.run_id} has no {role.value}: submit its job again.")
    return directory
