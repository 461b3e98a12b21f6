"""An export: the labels of a run, part after part, in one of the formats.

A part whose files are there is not written again; what is known of it lies in ``.export`` until
OUT is asked for something else. Documents that tell of all images are written last: a folder that
has them is complete.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dcsp.errors import ConfigError
from dcsp.exports.base import Record, Shard
from dcsp.exports.labels import Labels, require_table
from dcsp.exports.place import Place, as_file
from dcsp.exports.registry import FORMATS
from dcsp.exports.rows import Exported, Written
from dcsp.inspection.destination import EXPORT, mark_folder
from dcsp.inspection.inventory import Run
from dcsp.progress import Progress
from dcsp.stages.parts import TableInput
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.erased import load_erased
from dcsp.tables.fingerprint import digest_lines
from dcsp.tables.layout import CORPUS_DIRECTORY
from dcsp.tables.snapshot import Part

_VERSION = 1
"""Raised when the files of a format change: what lies in OUT is then written anew."""
_PARTS = ".export"
_DOCUMENTS, _JOURNAL = "documents", "journal"
_SUFFIX = ".json.gz"


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        labels: ``published``, ``cues`` or ``network``.
        format: A name of :data:`dcsp.exports.registry.FORMATS`.
        splits: Which splits; empty: all that have such labels.
        min_trust: Least trust of an image's label; None: any.
    """

    labels: str = "published"
    format: str = "voc"
    splits: Sequence[str] = ()
    min_trust: float | None = None


class _Numbered(NamedTuple):
    """A part, its place in its split, and the rows of the corpus before it."""

    part: Part
    shard: Shard
    before: int


class Export:
    """One export of a run.

    Args:
        store: The store.
        run: One of its runs.
        request: What is asked for.

    Raises:
        ConfigError: The run cannot have what is asked for.
        StoreError: It has no such labels, or no trust.
    """

    def __init__(self, store: Store, run: Run, request: Request) -> None:
        self._store, self._run, self._request = store, run, request
        self._labels = Labels(store, run, request.labels)
        there = {part.split for part in self._labels.snapshot.parts}.intersection(
            self._labels.splits
        )
        self._splits = sorted(there.intersection(request.splits or there))
        if missing := sorted({*request.splits} - there):
            raise ConfigError(
                f"--split {missing[0]}: the run {run.run_id} has no such labels of it, but of "
                f"{' and '.join(sorted(there))}."
            )
        self._format = FORMATS[request.format](self._labels.classes)
        self._beside = []
        if self._format.has_images:
            self._beside.append(TableInput("corpus", CORPUS_DIRECTORY, ("bytes",)))
        if request.min_trust is not None:
            if request.labels != "published":
                raise ConfigError(
                    f"--min-trust is of published labels, not of --labels {request.labels}: leave "
                    "one of them out."
                )
            self._beside.append(TableInput("trust", require_table(run, Role.TRUST), ("score",)))

    def write(self, folder: Store, out: Path) -> Exported:
        """Write what is not there yet.

        Args:
            folder: OUT, as :func:`dcsp.inspection.destination.claim_folder` gave it.
            out: The same.

        Raises:
            StoreError: A table or an image cannot be read, or a file not be written.
        """
        (out / _PARTS).mkdir(exist_ok=True)
        place = Place(out, out / _PARTS / _JOURNAL)
        told = self._told()
        self._begin(folder, place, told)
        parts = list(self._parts())
        done = Exported(elsewhere=sum(part.live for part in self._left()))
        with Progress("export", sum(part.live for part, *_ in parts)) as progress:
            for numbered in parts:
                name = numbered.part.name
                known = _read(folder, name)
                if known is None or not place.keep(map(as_file, known["files"])):
                    known = self._part(numbered, place)
                    _remember(folder, name, known)
                    place.settle()
                done += Exported(**known["counts"])
                progress.advance(numbered.part.live)
        self._end(folder, place)
        mark_folder(EXPORT, folder, {**told, "done": asdict(done)})
        return done

    def _told(self) -> dict[str, Any]:
        """What decides the files, as the mark has it."""
        return {
            "run": self._run.run_id,
            **asdict(self._request),
            "splits": self._splits,
            "erased": digest_lines(sorted(load_erased(self._store).ids)),
            "version": _VERSION,
        }

    def _begin(self, folder: Store, place: Place, told: dict[str, Any]) -> None:
        """Take away what an export of something else wrote."""
        mark = folder.read_json(EXPORT.mark_file)
        if any(mark.get(name) != value for name, value in told.items()):
            place.remove(place.unsettled())
            for name in folder.list(_PARTS):
                known = _read(folder, name.removesuffix(_SUFFIX))
                place.remove(map(as_file, known["files"] if known else ()))
                folder.remove(f"{_PARTS}/{name}")
            mark_folder(EXPORT, folder, told)

    def _parts(self) -> Iterator[_Numbered]:
        counts = Counter(part.split for part in self._labels.snapshot.parts)
        seen: Counter[str] = Counter()
        before = 0
        for part in self._labels.snapshot.parts:
            if part.split in self._splits:
                shard = Shard(part.split, seen[part.split], counts[part.split])
                yield _Numbered(part.part, shard, before)
            seen[part.split] += 1
            before += part.rows

    def _left(self) -> list[Part]:
        splits = {part.split for part in self._labels.snapshot.parts}
        return self._labels.snapshot.of([*splits.difference(self._splits)])

    def _part(self, numbered: _Numbered, place: Place) -> dict[str, Any]:
        """Write a part; returns what is to be known of it."""
        part, shard, before = numbered
        table = self._labels.read(part, self._beside)
        written = Written(self._format, place, self._request.min_trust)
        written.rows(table, shard.split, before)
        records = self._format.pack(written.records, shard, place)
        return {"counts": asdict(written.counts), "files": place.files, "records": records}

    def _end(self, folder: Store, place: Place) -> None:
        def records(splits: Sequence[str]) -> Iterator[Record]:
            for part, shard, _ in self._parts():
                known = _read(folder, part.name) if shard.split in splits else None
                yield from known["records"] if known else ()

        documents = self._format.documents(self._splits, records)
        names = [("", *path.rsplit(".", 1)) for path in documents]
        _remember(folder, _DOCUMENTS, {"files": names})
        for path, pieces in documents.items():
            place.write_long(path, pieces)


def _read(folder: Store, name: str) -> dict[str, Any] | None:
    """What is known of a part that was written."""
    file = f"{_PARTS}/{name}{_SUFFIX}"
    if not folder.exists(file):
        return None
    known: dict[str, Any] = json.loads(gzip.decompress(folder.read_bytes(file)))
    return known


def _remember(folder: Store, name: str, known: dict[str, Any]) -> None:
    data = gzip.compress(json.dumps(known).encode(), 1, mtime=0)
    folder.write_bytes(f"{_PARTS}/{name}{_SUFFIX}", data)
