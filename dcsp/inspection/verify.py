"""Whether a store is whole: every file what was written, every part aligned and counted.

Nothing is written or repaired. Image bytes are compared with the digests taken at ingest, weights
with those taken when they were saved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from dcsp.corpus.catalogue import CATALOGUE, CATALOGUE_COLUMNS
from dcsp.inspection.findings import Findings, Verification
from dcsp.inspection.inventory import Run, read_run
from dcsp.inspection.verify_files import check_files, check_other_tables
from dcsp.inspection.verify_outputs import OutputChecks, ids_digest
from dcsp.stages.parts import live_rows, scopes
from dcsp.store.store import Store
from dcsp.tables.erased import load_erased
from dcsp.tables.layout import (
    CHECKPOINTS,
    COMPLETE_FILE,
    CORPUS_DIRECTORY,
    CURRENT,
    ERASED_FILE,
    LINEAGES,
    RUNS,
    catalogue_file,
    current_run,
    metrics_file,
    part_file,
    rejected_file,
    report_file,
    run_file,
    snapshot_file,
)
from dcsp.tables.schemas import CORPUS, REJECTED, TRUTH
from dcsp.tables.snapshot import CorpusPart, Part, Snapshot


def verify_store(store: Store, on_part: Callable[[], None] = lambda: None) -> Verification:
    """Read all of a store and check it against what the store says about it.

    Args:
        store: The store.
        on_part: Called after each Parquet file, to show progress.

    Returns:
        What was found; faults are listed, never raised.

    Raises:
        StoreError: The store cannot be listed.
    """
    return _Verifier(Findings(store, on_part)).run()


def parts_to_read(store: Store) -> int:
    """How many Parquet files :func:`verify_store` will read.

    Raises:
        StoreError: The store cannot be listed.
    """
    return sum(name.endswith(".parquet") for name in store.files())


class _Verifier:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.store = findings.store
        self.blame, self.guard = findings.blame, findings.guard
        self.ids: dict[str, str] = {}
        """Corpus part → digest of its image ids."""
        self.live_ids: dict[str, str] = {}
        """The same without erased rows."""
        self.scopes: dict[str, list[Part]] = {}
        """Scope in a manifest → the parts it must have."""
        self.is_erasing = False
        self.snapshots: dict[str, set[str]] = {}
        """Fingerprint of a snapshot → its scopes."""
        self.outputs = OutputChecks(findings, self.ids, self.scopes)

    def run(self) -> Verification:
        self.guard(self.check_erased, ERASED_FILE)
        if self.is_erasing:  # tables are at odds until it has ended
            return self.findings.found
        check_files(self.findings)
        for fingerprint in _snapshots(self.store):
            self.guard(self.check_snapshot, fingerprint)
        self.guard(self.outputs.run)
        self.guard(self.check_runs)
        check_other_tables(self.findings)
        return self.findings.found

    def check_erased(self, name: str) -> None:
        self.is_erasing = load_erased(self.store).is_unfinished
        if self.is_erasing:
            self.blame(
                f"{name} says that images are being erased, or that a `dcsp erase` was killed: "
                f"`dcsp erase {self.store.url}` ends it; nothing else was looked at."
            )

    def check_snapshot(self, fingerprint: str) -> None:
        snapshot = Snapshot.load(self.store, fingerprint)
        if snapshot.fingerprint != fingerprint:
            self.blame(f"The snapshot {snapshot_file(fingerprint)} is not what its name says.")
        found = scopes(snapshot)
        self.snapshots[fingerprint] = set(found)
        self.scopes.update(found)
        for part in snapshot.parts:
            if part.name not in self.ids:
                self.guard(self.check_corpus_part, part)
            if part.truth and part.truth not in self.findings.read_files:
                self.guard(self.outputs.check_aligned, part.truth, part.name, TRUTH)
        self.guard(self.findings.read, rejected_file(fingerprint), REJECTED)
        self.guard(self.check_catalogue, catalogue_file(fingerprint), snapshot)
        lineage = f"{LINEAGES}/{snapshot.lineage}.json"
        if snapshot.lineage and lineage not in self.findings.files:
            self.blame(
                f"{lineage} is gone, which says what the next ingest goes on from: submit the job "
                "again."
            )

    def check_corpus_part(self, part: CorpusPart) -> None:
        name = part_file(CORPUS_DIRECTORY, part.name)
        table = self.findings.read(name, CORPUS)
        self.ids[part.name] = ids_digest(table)
        self.live_ids[part.name] = ids_digest(live_rows(table, ()))
        if table.num_rows != part.rows:
            self.blame(f"{name} has {table.num_rows} rows, its snapshot says {part.rows}.")
        columns = (table["image_id"], table["bytes"], table["sha256"])
        for image_id, data, expected in zip(*columns, strict=True):
            content = data.as_buffer() if data.is_valid else None
            if content is not None and hashlib.sha256(content).hexdigest() != expected.as_py():
                self.blame(f"The bytes of {image_id.as_py()} in {name} have another digest.")

    def check_catalogue(self, name: str, snapshot: Snapshot) -> None:
        """Every live row of every part is in it, and no other."""
        columns = pa.schema([CATALOGUE.field(column) for column in CATALOGUE_COLUMNS])
        table = self.findings.read(name, columns)
        table = table.take(np.lexsort((table["row"].to_numpy(), table["part"].to_numpy())))
        places = table["part"].to_numpy()
        fits = not len(places) or places[-1] < len(snapshot.parts)
        for index, part in enumerate(snapshot.parts):
            first, last = np.searchsorted(places, [index, index + 1])
            rows = table.slice(first, last - first)
            fits &= part.name not in self.ids or ids_digest(rows) == self._live_ids(part)
        if not fits:
            self.blame(
                f"{name} does not list the images of its snapshot: remove it and submit the job "
                "again; images are read once more, and stay where they are."
            )

    def _live_ids(self, part: CorpusPart) -> str:
        if not part.dead:
            return self.live_ids[part.name]
        ids = self.store.read_table(part_file(CORPUS_DIRECTORY, part.name), ["image_id"])
        return ids_digest(live_rows(ids, part.dead))

    def check_runs(self) -> None:
        ended: set[str] = set()
        for run_id in self.store.list(RUNS):
            self.guard(self.check_run, run_id, ended)
        if CURRENT not in self.findings.files:
            if ended:
                self.findings.note(
                    "No run is published, as there is no CURRENT: `dcsp publish STORE RUN` "
                    "publishes one."
                )
        elif self.store.read_bytes(CURRENT).decode(errors="replace").strip() not in ended:
            self.blame(
                "CURRENT names a run that is not there or has not ended: `dcsp publish STORE RUN` "
                "publishes another."
            )

    def check_run(self, run_id: str, ended: set[str]) -> None:
        there = self.findings.files
        if metrics_file(run_id) in there:
            ended.add(run_id)
        elif report_file(run_id) in there:
            self.blame(f"{metrics_file(run_id)} is gone: {self._what_to_do(run_id)}")
        run = read_run(self.store, run_id)
        if run is None:
            if run_id in ended:
                self.blame(f"{run_file(run_id)} is gone: {self._what_to_do(run_id)}")
            return
        if run.metrics is None:
            return
        if report_file(run_id) not in there:
            self.blame(f"{report_file(run_id)} is gone: `dcsp report STORE {run_id}` writes it.")
        self.check_steps(run)

    def _what_to_do(self, run_id: str) -> str:
        """About a run without one of its files; ``dcsp gc`` refuses where it is the published."""
        if run_id == current_run(self.store):
            return (
                "put the file back, submit the job of this run again, or publish another run "
                "(`dcsp publish STORE RUN`)."
            )
        return (
            "submit the job of this run again, or `dcsp gc STORE --delete` removes what is left of "
            "the run."
        )

    def check_steps(self, run: Run) -> None:
        """The outputs of a run that has ended are complete for its corpus."""
        corpora = {str(run.record.get(name, "")) for name in ("snapshot", "learned")} - {""}
        for fingerprint in sorted(corpora - set(self.snapshots)):
            self.blame(
                f"The run {run.run_id} is of the corpus {fingerprint}, whose "
                f"{snapshot_file(fingerprint)} is gone or damaged: submit its job again."
            )
        scopes = {s for fingerprint in corpora for s in self.snapshots.get(fingerprint, ())}
        for step in run.record.get("steps", ()):
            directory = str(step["directory"])
            if not any(name.startswith(f"{directory}/") for name in self.findings.files):
                self.blame(
                    f"The run {run.run_id} refers to {directory}, which is gone: submit its job "
                    "again."
                )
                continue
            marks = (
                {COMPLETE_FILE}
                if directory.startswith(f"{CHECKPOINTS}/")
                else {f"complete-{scope}.json" for scope in scopes}
            )
            if scopes and not any(f"{directory}/{mark}" in self.findings.files for mark in marks):
                self.blame(
                    f"The run {run.run_id} has used {directory}, which is not marked as complete: "
                    "submit its job again."
                )


def _snapshots(store: Store) -> Iterator[str]:
    for name in store.list("corpus"):
        if name.endswith(".json"):
            yield name.removesuffix(".json")
