"""What of a store goes, and what stays: runs that are kept, and all they need.

What was written in the last days stays, whoever needs it: a job that was interrupted may have made
it and goes on from it. So what goes depends on ages and on the runs that stay, not on those that
go, and a collection that was killed is ended by doing it again.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dcsp.errors import DcspError, StoreError
from dcsp.inspection.inventory import Run, runs
from dcsp.stages.parts import scopes
from dcsp.stages.statuses import forget
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.store.sweep import (
    Seen,
    Upload,
    abort_upload,
    empty_folders,
    is_temporary,
    look,
    remove_empty_folders,
    remove_files,
    uploads,
)
from dcsp.tables.layout import (
    BATCHES,
    CHECKPOINTS,
    COMPLETE_FILE,
    CORPUS,
    CORPUS_DIRECTORY,
    LINEAGES,
    LISTINGS,
    METRICS_FILE,
    REPORT_FILE,
    RESUMABLE,
    RUN_FILE,
    RUNS,
    STAGE_FILE,
    STATUSES_FILE,
    TRUTH_DIRECTORY,
    UNKNOWN_TAGS,
    current_run,
    is_fingerprint,
    is_manifest,
    is_output,
    stage_directories,
)
from dcsp.tables.snapshot import TRAIN, Snapshot
from dcsp.text import shown

DAY = 24 * 3600.0
"""Seconds; a temporary file at the top of a store, or an upload, is of a dead writer after that."""


@dataclass(frozen=True)
class Collected:
    """What would go of a store, and what stays.

    Attributes:
        runs: Id → why it stays; empty where it goes.
        files: Name → size and age of every file.
        goes: Files that go, in the order in which they do.
        folders: Empty folders.
        uploads: Uploads to end.
        not_looked: Why uploads were not looked for; empty where they were.
    """

    runs: Mapping[str, str]
    files: Mapping[str, Seen]
    goes: Sequence[str]
    folders: Sequence[str] = ()
    uploads: Sequence[Upload] = ()
    not_looked: str = ""


def collect(store: Store, keep: int, days: float) -> Collected:
    """Say what goes; nothing is removed.

    Args:
        store: The store.
        keep: Runs that stay: the last ones that have ended, beside the published one.
        days: What was written in so many days stays.

    Raises:
        StoreError: A file that says what is needed cannot be read or is gone.
    """
    return _Collector(store, keep, days).collected()


def remove(store: Store, collected: Collected, still_ours: Callable[[], None]) -> None:
    """Remove what goes: what refers to other files before these, so that no reader is led astray.

    Args:
        store: The store, whose lease the caller holds.
        collected: What goes.
        still_ours: Called before each group of files; raises where the lease was lost.

    Raises:
        StoreError: Some files could not be removed; what they refer to was not touched.
    """
    tables: defaultdict[str, list[str]] = defaultdict(list)
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for name in collected.goes:
        directory, _, file = name.rpartition("/")
        if file.endswith(".parquet"):
            tables[directory].append(file.removesuffix(".parquet"))
        groups[_rank(name)].append(name)
    still_ours()
    goes = set(collected.goes)
    for directory, parts in tables.items():
        if f"{directory}/{STATUSES_FILE}" not in goes:
            forget(store, directory, parts)
    for rank in sorted(groups):
        still_ours()
        remove_files(store, groups[rank])
    for upload in collected.uploads:
        abort_upload(store, upload)
    remove_empty_folders(store)


def kind_of(name: str) -> str:
    """What a file is, for a person: its table, or what it belongs to."""
    first, _, rest = name.partition("/")
    if is_temporary(name):
        return "temporary files"
    if first == CORPUS:
        return CORPUS_DIRECTORY if name.startswith(f"{CORPUS_DIRECTORY}/") else CORPUS
    if name.startswith(f"{RESUMABLE}/"):
        return RESUMABLE
    return first if rest else "at the top"


def _rank(name: str) -> int:
    """Runs, manifests, what names snapshots, snapshots, data; last what tells that it is ours."""
    file = name.rpartition("/")[2]
    if name.startswith(f"{RUNS}/"):
        return 0 if file == RUN_FILE else 1
    if is_manifest(file):
        return 2
    if name.startswith((f"{LINEAGES}/", f"{LISTINGS}/")):
        return 3
    if name.startswith(f"{CORPUS}/") and name.count("/") == 1:
        return 4 if file.endswith(".json") else 5
    if file == STAGE_FILE:
        return 8
    return 7 if is_output([file]) else 6


class _Collector:
    def __init__(self, store: Store, keep: int, days: float) -> None:
        self.store, self.keep, self.days = store, keep, days
        self.now = time.time()
        self.files = look(store)
        self.held: defaultdict[str, list[str]] = defaultdict(list)
        """Folder that may be one output, or one run → the names of all files anywhere in it."""
        self.newest: defaultdict[str, float] = defaultdict(float)
        """The same → when something in it was written last."""
        for name, seen in self.files.items():
            steps = name.split("/")
            for depth in (2, 3):
                if len(steps) > depth:
                    directory = "/".join(steps[:depth])
                    self.held[directory].append("/".join(steps[depth:]))
                    self.newest[directory] = max(self.newest[directory], seen.written)
        self.runs: dict[str, str] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.parts: set[str] = set()
        self.truths: set[str] = set()
        self.learned: set[str] = set()
        """What young trainings of no kept run learn from, as :meth:`Snapshot.learned_from` says it.
        """

    def collected(self) -> Collected:
        known = runs(self.store)
        self._require_published(known)
        self._keep_runs(known)
        kept = [run for run in known if self.runs[run.run_id]]
        needed = {str(step["directory"]) for run in kept for step in run.record.get("steps", ())}
        directories = self._outputs()
        young = self._young_outputs(directories, needed)
        self._keep_snapshots(kept, [name for d in young for name in directories[d]])
        goes = [name for name in self.files if self._goes(name)]
        goes += self._of_outputs(directories, needed | young)
        goes += self._named_by_snapshots()
        old, not_looked = self._old_uploads()
        return Collected(
            self.runs,
            self.files,
            sorted(goes, key=lambda name: (_rank(name), name)),
            empty_folders(self.store),
            old,
            not_looked,
        )

    def _old_uploads(self) -> tuple[list[Upload], str]:
        try:
            return [each for each in uploads(self.store) if self._is_dead(each.begun)], ""
        except StoreError as error:  # few accounts may list them, and no store needs it
            return [], str(error)

    def _is_young(self, name: str) -> bool:
        return self._is_recent(self.files[name].written)

    def _is_recent(self, written: float) -> bool:
        return self.days > 0 and self.now - written < self.days * DAY

    def _is_dead(self, written: float) -> bool:
        return self.days == 0 or self.now - written >= min(1.0, self.days) * DAY

    def _any_young(self, directory: str) -> bool:
        return self._is_recent(self.newest[directory])

    def _require_published(self, known: Sequence[Run]) -> None:
        """Refuse a store whose published run is not told of: all that it needs would go.

        Raises:
            StoreError: It is such a store.
        """
        current = current_run(self.store)
        if current and not any(run.is_current for run in known):
            raise StoreError(
                f"The published run {shown(current)} has no {RUN_FILE}, which says what it needs: "
                "submit its job again, or publish another run (dcsp publish STORE RUN)."
            )

    def _keep_runs(self, known: Sequence[Run]) -> None:
        ended = [run for run in known if run.metrics is not None]
        last = {run.run_id for run in ended[max(0, len(ended) - self.keep) :]}
        for run in known:
            why = "published" if run.is_current else ""
            if run.run_id in last:
                why = why or f"one of the last {self.keep}"
            if not why and self._any_young(f"{RUNS}/{run.run_id}"):
                why = f"written in the last {self.days:g} days"
            self.runs[run.run_id] = why

    def _outputs(self) -> dict[str, list[str]]:
        """Directory of every table and checkpoint → the names of the files in it."""
        return {
            directory: self.held[directory]
            for directory in stage_directories(self.store)
            if is_fingerprint(directory.rpartition("/")[2]) and is_output(self.held[directory])
        }

    def _young_outputs(
        self, directories: Mapping[str, Sequence[str]], needed: Collection[str]
    ) -> set[str]:
        """Outputs that no kept run names and a job may go on with, and what these were made of."""
        places = {directory.rpartition("/")[2]: directory for directory in directories}
        waiting = [
            directory
            for directory, fingerprint in ((d, d.rpartition("/")[2]) for d in directories)
            if directory not in needed
            and (self._any_young(directory) or self._any_young(f"{RESUMABLE}/{fingerprint}"))
        ]
        found: set[str] = set()
        while waiting:
            directory = waiting.pop()
            if directory not in found:
                found.add(directory)
                inputs = self._inputs(directory)
                self.learned.update(value for value in inputs if value not in places)
                waiting += [places[value] for value in inputs if value in places]
        return found

    def _inputs(self, directory: str) -> list[str]:
        try:
            key = self.store.read_json(f"{directory}/{STAGE_FILE}")
        except DcspError:  # such a table is made anew
            return []
        return [str(value) for value in key.get("inputs", {}).values()]

    def _keep_snapshots(self, kept: Sequence[Run], held: Collection[str]) -> None:
        """Those of kept runs, young ones, and those that the next ingest goes on from."""
        for run in kept:
            for name in ("snapshot", "learned"):
                if name in run.record:
                    self._keep_snapshot(str(run.record[name]))
        for fingerprint in self._fingerprints():
            if self._is_young(f"{CORPUS}/{fingerprint}.json") or self._is_learned(fingerprint):
                self._keep_snapshot(fingerprint)
        lineages = {snapshot.lineage for snapshot in self.snapshots.values()}
        parts = {name.removesuffix(".parquet") for name in held}
        for name in self.store.list(LINEAGES):
            file = f"{LINEAGES}/{name}"
            fingerprint = str(self.store.read_json(file)["snapshot"])
            if f"{CORPUS}/{fingerprint}.json" not in self.files:
                continue
            is_used = name.removesuffix(".json") in lineages or self._is_young(file)
            if is_used or parts & {part.name for part in self._load(fingerprint).parts}:
                self._keep_snapshot(fingerprint)

    def _is_learned(self, fingerprint: str) -> bool:
        """Whether a young training learns from a snapshot; those that go need not be readable."""
        try:
            return (
                bool(self.learned) and self._load(fingerprint).learned_from([TRAIN]) in self.learned
            )
        except DcspError:
            return False

    def _keep_snapshot(self, fingerprint: str) -> None:
        snapshot = self.snapshots[fingerprint] = self._load(fingerprint)
        self.parts.update(part.name for part in snapshot.parts)
        self.truths.update(part.truth for part in snapshot.parts if part.truth)

    def _load(self, fingerprint: str) -> Snapshot:
        return self.snapshots.get(fingerprint) or Snapshot.load(self.store, fingerprint)

    def _fingerprints(self) -> list[str]:
        """Of every snapshot."""
        names = (name.removeprefix(f"{CORPUS}/") for name in self.files)
        found = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return [fingerprint for fingerprint in found if is_fingerprint(fingerprint)]

    def _goes(self, name: str) -> bool:
        """Whether a file that is no stage's goes; one that dcsp did not write stays."""
        directory, _, file = name.rpartition("/")
        if is_temporary(name):  # whoever could be at work would hold the lease
            return bool(directory) or self._is_dead(self.files[name].written)
        top, own, *rest = [*name.split("/"), ""]
        if top == RUNS:
            is_ours = "/".join(rest[:-1]) in (RUN_FILE, METRICS_FILE, REPORT_FILE)
            return is_ours and not self.runs.get(own) and not self._any_young(f"{RUNS}/{own}")
        if name.startswith(f"{RESUMABLE}/"):
            return is_fingerprint(rest[0]) and not self._any_young(f"{RESUMABLE}/{rest[0]}")
        if self._is_young(name):
            return False
        if directory in (CORPUS, UNKNOWN_TAGS):
            snapshot = file.partition(".")[0]
            return is_fingerprint(snapshot) and snapshot not in self.snapshots
        if directory == CORPUS_DIRECTORY:
            return file.endswith(".parquet") and file.removesuffix(".parquet") not in self.parts
        return (
            directory == TRUTH_DIRECTORY and file.endswith(".parquet") and name not in self.truths
        )

    def _of_outputs(
        self, directories: Mapping[str, Sequence[str]], kept: Collection[str]
    ) -> Iterator[str]:
        """What goes of tables and checkpoints: whole ones, and parts of corpora that go."""
        manifests = {COMPLETE_FILE}
        for snapshot in self.snapshots.values():
            manifests.update(f"complete-{scope}.json" for scope in scopes(snapshot))
        for directory, files in directories.items():
            for file in files:
                name = f"{directory}/{file}"
                if is_temporary(name):
                    continue
                is_part = file.endswith(".parquet") and not directory.startswith(CHECKPOINTS)
                is_old_part = is_part and file.removesuffix(".parquet") not in self.parts
                is_old_manifest = is_manifest(file) and file not in manifests
                is_unneeded = directory not in kept or is_old_manifest
                if is_unneeded or (is_old_part and not self._is_young(name)):
                    yield name

    def _named_by_snapshots(self) -> Iterator[str]:
        """Listings, lineages and records of batches whose snapshot or part goes."""
        old = [
            name
            for name in self.files
            if name.startswith((f"{LISTINGS}/", f"{LINEAGES}/", f"{BATCHES}/"))
            and not is_temporary(name)
            and not self._is_young(name)
        ]
        with read_ahead(self.store.read_json, old) as contents:
            for name, told in zip(old, contents, strict=True):
                if "snapshot" in told:
                    goes = told["snapshot"] not in self.snapshots
                else:  # one without a part says what was rejected
                    goes = bool(told["part"]) and told["part"]["name"] not in self.parts
                if goes:
                    yield name
