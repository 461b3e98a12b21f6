"""Whether a store is whole: every part readable, aligned and counted, no file left half written.

Nothing is written or repaired. Image bytes are compared with the digests taken at ingest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import ParamSpec

import pyarrow as pa

from dcsp.corpus.catalogue import CATALOGUE
from dcsp.errors import DcspError
from dcsp.inspection.inventory import Output, outputs, runs
from dcsp.methods.registry import methods
from dcsp.stages.parts import live_rows, scope, stage_version
from dcsp.stages.statuses import count_statuses
from dcsp.store.store import Store
from dcsp.tables.fingerprint import digest_lines
from dcsp.tables.layout import (
    COMPLETE_FILE,
    CORPUS_DIRECTORY,
    CURRENT,
    MODEL_FILE,
    file_name,
    part_file,
)
from dcsp.tables.schemas import (
    CORPUS,
    PREDICTIONS,
    REJECTED,
    RULES_SINCE,
    SCHEMAS,
    STATUSES,
    TRUTH,
)
from dcsp.tables.snapshot import CorpusPart, Part, Snapshot

P = ParamSpec("P")


@dataclass
class Verification:
    """What was looked at and what was wrong.

    Attributes:
        parts: Parts read, of all tables.
        rows: Rows of these parts.
        checkpoints: Checkpoints looked at.
        problems: One sentence for each fault; empty for a store that is whole.
    """

    parts: int = 0
    rows: int = 0
    checkpoints: int = 0
    problems: list[str] = field(default_factory=list)


def verify_store(store: Store, on_part: Callable[[], None] = lambda: None) -> Verification:
    """Read every part of a store and check it against what the store says about it.

    Args:
        store: The store.
        on_part: Called after each part, to show progress.

    Returns:
        What was found; faults are listed, never raised.
    """
    return _Verifier(store, on_part).run()


def parts_to_read(store: Store) -> int:
    """How many parts :func:`verify_store` will read, as far as the store can be listed.

    Raises:
        StoreError: A snapshot cannot be read.
    """
    files: set[str] = set()
    for fingerprint in _snapshots(store):
        for part in Snapshot.load(store, fingerprint).parts:
            files.update((part_file(CORPUS_DIRECTORY, part.name), part.truth or ""))
    return len(files - {""}) + sum(output.parts for output in outputs(store))


class _Verifier:
    def __init__(self, store: Store, on_part: Callable[[], None]) -> None:
        self.store = store
        self.on_part = on_part
        self.found = Verification()
        self.ids: dict[str, str] = {}
        """Corpus part → digest of its image ids."""
        self.truths: set[str] = set()
        """Files of ground truth that were checked."""
        self.scopes: dict[str, list[Part]] = {}
        """Scope in a manifest → the parts it must have."""

    def run(self) -> Verification:
        for name in self.store.temporary_files():
            self.blame(f"{name} is a temporary file: a killed writer left it, or one is at work.")
        for fingerprint in _snapshots(self.store):
            self.guard(self.check_snapshot, fingerprint)
        for name, schema in _tables_about(self.store):
            self.guard(self.store.read_table, name, schema.names)
        self.guard(self.check_outputs)
        self.guard(self.check_runs)
        return self.found

    def blame(self, problem: str) -> None:
        self.found.problems.append(problem)

    def guard(self, check: Callable[P, object], *args: P.args, **options: P.kwargs) -> None:
        try:
            check(*args, **options)
        except DcspError as error:
            self.blame(str(error))

    def check_snapshot(self, fingerprint: str) -> None:
        snapshot = Snapshot.load(self.store, fingerprint)
        if snapshot.fingerprint != fingerprint:
            self.blame(f"The snapshot corpus/{fingerprint}.json is not what its name says.")
        for splits in _split_choices(snapshot):
            parts = snapshot.of(splits)
            self.scopes[scope(parts)] = parts
        for part in snapshot.parts:
            if part.name not in self.ids:
                self.guard(self.check_corpus_part, part)
            if part.truth and part.truth not in self.truths:
                self.truths.add(part.truth)
                self.guard(self.check_aligned, part.truth, part.name, TRUTH)

    def check_corpus_part(self, part: CorpusPart) -> None:
        name = part_file(CORPUS_DIRECTORY, part.name)
        table = self.read(name, CORPUS)
        self.ids[part.name] = _ids(table)
        if table.num_rows != part.rows:
            self.blame(f"{name} has {table.num_rows} rows, its snapshot says {part.rows}.")
        columns = (table["image_id"], table["bytes"], table["sha256"])
        for image_id, data, expected in zip(*columns, strict=True):
            content = data.as_buffer() if data.is_valid else None
            if content is not None and hashlib.sha256(content).hexdigest() != expected.as_py():
                self.blame(f"The bytes of {image_id.as_py()} in {name} have another digest.")

    def check_outputs(self) -> None:
        for output in outputs(self.store):
            self.guard(self.check_output, output)

    def check_output(self, output: Output) -> None:
        if output.is_checkpoint:
            self.check_checkpoint(output)
            return
        schema = self.schema_of(output.directory)
        statuses: dict[str, pa.Table] = {}
        for file in sorted(output.files):
            if file.endswith(".parquet"):
                part = file.removesuffix(".parquet")
                name = f"{output.directory}/{file}"
                self.guard(self.check_table_part, name, part, schema, statuses)
        for manifest in output.manifests:
            self.check_manifest(output, manifest["snapshot"], manifest["rows"], statuses)

    def schema_of(self, directory: str) -> pa.Schema | None:
        """Schema of a table as the version of its stage wrote it."""
        schema = schemas().get(directory.split("/")[0])
        if schema is PREDICTIONS and stage_version(self.store, directory) < RULES_SINCE:
            old = [field for field in schema if field.name not in ("rule", "label_network")]
            return pa.schema(old)
        return schema

    def check_table_part(
        self,
        name: str,
        part: str,
        schema: pa.Schema | None,
        statuses: dict[str, pa.Table],
    ) -> None:
        statuses[part] = self.check_aligned(name, part, schema)

    def check_aligned(self, name: str, part: str, schema: pa.Schema | None) -> pa.Table:
        """Returns the column of statuses, small."""
        table = self.read(name, schema)
        if part not in self.ids:
            self.blame(f"{name} belongs to no part of any snapshot of the corpus.")
        elif _ids(table) != self.ids[part]:
            self.blame(f"{name} does not have the rows of its corpus part.")
        statuses = table.select(["status"])
        strange = set(count_statuses(statuses)) - {*STATUSES}
        if strange:
            self.blame(f"{name} has rows of the unknown status {min(strange)!r}.")
        return statuses.set_column(0, "status", statuses["status"].dictionary_encode())

    def check_manifest(
        self,
        output: Output,
        complete_for: str,
        counted: Mapping[str, int],
        statuses: Mapping[str, pa.Table],
    ) -> None:
        if complete_for not in self.scopes:
            self.blame(f"{output.directory} is said to be complete for a corpus that is not there.")
            return
        total: Counter[str] = Counter()
        for part in self.scopes[complete_for]:
            if file_name(part.name) not in output.files:
                self.blame(
                    f"{output.directory} is said to be complete but lacks the part {part.name}."
                )
            if part.name in statuses:
                total.update(count_statuses(live_rows(statuses[part.name], part.dead)))
        if +total != +Counter(counted):
            self.blame(
                f"{output.directory} has the rows {_told(total)}, but its manifest says "
                f"{_told(counted)}."
            )

    def check_checkpoint(self, output: Output) -> None:
        if COMPLETE_FILE not in output.files:
            return
        self.found.checkpoints += 1
        expected = output.manifests[0].get("bytes")
        size = output.files.get(MODEL_FILE)
        if size is None or (expected is not None and size != expected):
            self.blame(
                f"{output.directory}/{MODEL_FILE} has {size or 0} bytes, its mark says {expected}."
            )

    def check_runs(self) -> None:
        known = runs(self.store)
        there = {output.directory for output in outputs(self.store)}
        for run in known:
            for step in run.record.get("steps", ()):
                if run.metrics is not None and step["directory"] not in there:
                    self.blame(
                        f"The run {run.run_id} refers to {step['directory']}, which is gone."
                    )
        if self.store.exists(CURRENT) and not any(
            run.is_current and run.metrics is not None for run in known
        ):
            self.blame("CURRENT names a run that is not there or has not ended.")

    def read(self, name: str, schema: pa.Schema | None) -> pa.Table:
        table = self.store.read_table(name, schema.names if schema else None)
        self.found.parts += 1
        self.found.rows += table.num_rows
        self.on_part()
        return table


def schemas() -> dict[str, pa.Schema]:
    """Table name → schema, those of single cue methods included."""
    return SCHEMAS | {name: s for method in methods() for name, s in method.schemas.items()}


def _tables_about(store: Store) -> Iterator[tuple[str, pa.Schema]]:
    """What lies beside the snapshots: rejected rows and catalogues, with their schemas."""
    for name in store.list("corpus"):
        for ending, schema in ((".rejected.parquet", REJECTED), (".catalogue.parquet", CATALOGUE)):
            if name.endswith(ending):
                yield f"corpus/{name}", schema


def _snapshots(store: Store) -> Iterator[str]:
    for name in store.list("corpus"):
        if name.endswith(".json"):
            yield name.removesuffix(".json")


def _split_choices(snapshot: Snapshot) -> Iterator[Sequence[str]]:
    splits = sorted({part.split for part in snapshot.parts})
    for size in range(1, len(splits) + 1):
        yield from combinations(splits, size)


def _ids(table: pa.Table) -> str:
    return digest_lines(map(str, table["image_id"].to_pylist()))


def _told(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in sorted(rows.items())) or "none"
