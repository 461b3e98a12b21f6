"""How much work is left of every stage of a plan: parts, rows, and bytes to read.

It costs a listing or two for each table and reads no part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcsp.capacity.pace import EVALUATION, INGEST, Pace
from dcsp.corpus.catalogue import compare
from dcsp.corpus.ingest import batches_of
from dcsp.corpus.listing import Listing
from dcsp.evaluation.run import Evaluator
from dcsp.run.plan import Plan
from dcsp.stages.parts import TableInput
from dcsp.stages.stage import Stage
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, file_name, metrics_file
from dcsp.tables.snapshot import TRAIN, CorpusPart, Part, Snapshot

_DRAFT = "draft"
"""Start of the names of parts that are not there yet."""


@dataclass(frozen=True)
class Work:
    """What is left of one stage.

    Attributes:
        title: Of the stage.
        kind: ``tasks`` of ingest and evaluation, ``actors`` that mine, or ``training``.
        parts: Parts that it covers.
        parts_left: Those that are still to do; a training that has not ended has all left.
        rows_left: Images of these; of a training, images of all its steps.
        steps: Steps of a training, else 0.
        bytes_in: Bytes of the files to read; None where that is not known yet.
    """

    title: str
    kind: str
    parts: int
    parts_left: int
    rows_left: int
    steps: int = 0
    bytes_in: float | None = None


def draft_snapshot(listing: Listing, classes: Sequence[str]) -> Snapshot:
    """What a listing will become, if all that is new or changed is good and no parts are joined.

    Names of new parts are provisional. One of images that the store holds by other settings goes by
    their earlier part, whose rows of tables of images alone will be its own.
    """
    previous = listing.previous()
    changes = compare(previous.state.catalogue, listing.rows)
    records = []
    names = {part.name for part in previous.state.parts}
    for number, batch in enumerate(batches_of(listing, changes)):
        rows, name = batch.rows, batch.held.part if batch.held else ""
        name = f"{_DRAFT}{number}" if not name or name in names else name
        names.add(name)
        masked = any(row.mask_uri for row in rows)
        part = CorpusPart(name, rows[0].split, len(rows), name if masked else None)
        packed: list[tuple[str, int, list[int]]] = [(row.image_id, 0, []) for row in rows]
        records.append({"part": part.as_dict(), "rows": packed, "same": []})
    parts = previous.state.grow(changes, records).parts
    new = sum(part.rows for part in parts if is_draft(part) and part.split == TRAIN)
    lineage = listing.packer.lineage
    return Snapshot(tuple(classes), parts, lineage=lineage, added=previous.added + new)


def is_draft(part: CorpusPart) -> bool:
    """Whether a part is not in the store yet."""
    return part.name.startswith(_DRAFT)


def largest_part(store: Store, snapshot: Snapshot) -> int:
    """Bytes of the largest corpus part of a snapshot that is in the store; costs one listing."""
    sizes = store.sizes(CORPUS_DIRECTORY)
    return max((sizes.get(file_name(part.name), 0) for part in snapshot.parts), default=0)


def work_of(store: Store, plan: Plan, paces: Mapping[str, Pace]) -> list[Work]:
    """What is left of every stage, in order.

    Args:
        store: The store.
        plan: Over the snapshot, or over a draft of it.
        paces: What is known of stages; tables that are not there yet are as large as these say.

    Raises:
        StoreError: The store cannot be read.
    """
    survey = _Survey(store, plan, paces)
    new = [part for part in plan.snapshot.parts if is_draft(part)]
    parts = len(plan.snapshot.parts)
    ingest = Work(INGEST, "tasks", parts, len(new), sum(part.rows for part in new))
    return [ingest, *(survey.work(step) for step in plan), survey.evaluation()]


class _Survey:
    """Sizes of tables, listed once each."""

    def __init__(self, store: Store, plan: Plan, paces: Mapping[str, Pace]) -> None:
        self._store, self._plan = store, plan
        self._sizes: dict[str, dict[str, int]] = {}
        self._paces = {
            step.stage.key.directory: paces[step.title]
            for step in plan
            if step.title in paces and not step.stage.learns
        }
        if INGEST in paces:
            self._paces[CORPUS_DIRECTORY] = paces[INGEST]

    def work(self, step: Step[Stage]) -> Work:
        parts = self._plan.parts(step)
        if step.stage.learns:
            return self._training(step, parts)
        made = self._listed(step.stage.key.directory)
        left = [part for part in parts if file_name(part.name) not in made]
        rows = sum(part.rows for part in left)
        size = self._bytes(step.stage.inputs, left)
        return Work(step.title, "actors", len(parts), len(left), rows, bytes_in=size)

    def evaluation(self) -> Work:
        parts = Evaluator(self._store, self._plan).parts
        if self._store.exists(metrics_file(self._plan.run_id)):
            return Work(EVALUATION, "tasks", len(parts), 0, 0)
        rows = sum(part.rows for part in parts)
        return Work(EVALUATION, "tasks", len(parts), len(parts), rows)

    def _training(self, step: Step[Stage], parts: Sequence[Part]) -> Work:
        left = step.stage.left(self._store, parts)
        if not left:
            return Work(step.title, "training", len(parts), 0, 0)
        rows, size = sum(part.rows for part in parts), self._bytes(step.stage.inputs, parts)
        read = None if size is None or not rows else size / rows * left
        return Work(step.title, "training", len(parts), len(parts), left, step.stage.steps, read)

    def _bytes(self, inputs: Sequence[TableInput], parts: Sequence[Part]) -> float | None:
        """Of the files of some parts in every table that is read; None where one is not known."""
        total = 0.0
        for source in inputs:
            listed = self._listed(source.directory)
            pace = self._paces.get(source.directory)
            for part in self._having(source, parts):
                size = listed.get(file_name(part.name))
                if size is not None:
                    total += size
                elif pace is not None:
                    total += pace.size(part.rows, 1)
                else:
                    return None
        return total

    def _having(self, source: TableInput, parts: Sequence[Part]) -> Sequence[Part]:
        """Those of some parts that a table is to have."""
        if source.splits is None:
            return parts
        names = {part.name for part in self._plan.snapshot.of(source.splits)}
        return [part for part in parts if part.name in names]

    def _listed(self, directory: str) -> dict[str, int]:
        if directory not in self._sizes:
            self._sizes[directory] = self._store.sizes(directory)
        return self._sizes[directory]
