"""Erasing images: nothing in a store holds them, their ids or what was made of them any more.

Their rows stay blank where they were (:func:`dcsp.tables.erased.blanked`): parts keep their names
and rows, so that snapshots, fingerprints, manifests and runs stay what they were. The list of what
was erased is written first, and says that something may still be there until all is done. Parts of
the corpus are written last: as long as an image is in one, a second call finds all that belongs to
it. What networks have learned stays learned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcsp.corpus.rejected import is_of_image
from dcsp.corpus.sources.base import printable
from dcsp.corpus.sources.shards import hide_erased
from dcsp.errors import DcspError, StoreError
from dcsp.report.collect import write_report
from dcsp.report.markup import element
from dcsp.run.record import load_run
from dcsp.stages.parts import recount, scopes
from dcsp.stages.statuses import forget
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.store.sweep import end_uploads, is_temporary, look, remove_files
from dcsp.tables.erased import (
    ERASED,
    ERASED_ID,
    Erased,
    blanked,
    digest_of,
    is_blank,
    load_erased,
)
from dcsp.tables.layout import (
    BATCHES,
    CHECKPOINTS,
    COMPARISONS,
    CORPUS,
    CORPUS_DIRECTORY,
    RUNS,
    TRUTH_DIRECTORY,
    file_name,
    is_fingerprint,
    is_manifest,
    metrics_file,
    part_file,
    report_file,
    run_file,
    stage_directories,
)
from dcsp.tables.schemas import REJECTED
from dcsp.tables.snapshot import Part, Snapshot
from dcsp.text import shown

Rows = Mapping[str, Set[int]]
"""Part of the corpus → positions of rows to blank."""


@dataclass
class Erasure:
    """What an erasure did.

    Attributes:
        names: Ids whose rows were blanked: those asked for, and others with the same image file.
        rows: Rows of the corpus that were blanked; an image that was replaced has several.
        files: Tables, pages and records that were written again or removed.
        galleries: Pages of comparisons that showed an image, and were removed.
        unwritten: Runs whose report is gone and could not be written anew.
        uploads: Why uploads that did not end were left alone; empty where they were not.
    """

    names: set[str] = field(default_factory=set)
    rows: int = 0
    files: int = 0
    galleries: list[str] = field(default_factory=list)
    unwritten: list[str] = field(default_factory=list)
    uploads: str = ""


def erase(store: Store, ids: Sequence[str], still_ours: Callable[[], None]) -> Erasure:
    """Erase images and all made of them, or end an erasure that was killed.

    Args:
        store: The store, whose lease the caller holds.
        ids: Of the images, as the tables have them; none: what was erased before is gone over.
        still_ours: Called before each group of writes; raises where the lease was lost.

    Raises:
        StoreError: An id is that of no image, and nothing was changed; or a file cannot be read or
            written, and the same call goes on.
    """
    before = load_erased(store)
    if not ids and before == Erased():
        raise StoreError(f"Nothing was erased from the store {store.url} before: name image ids.")
    parts = _read_parts(store)
    _require_known(store, [i for i in ids if not before.has(i)], parts)
    erased, rows, names = _choose(parts, before.with_more(ids, ()))
    for part, row, image_id in _left_without_corpus(store, parts, erased):
        rows.setdefault(part, set()).add(row)
        names.add(image_id)
    erased = erased.with_more(names, ())  # ids of the same file: no listing may name them again
    snapshots = _snapshots(store)
    erased.save(store)
    done = Erasure(names, sum(map(len, rows.values())))
    pages = _pages_showing(store, names)
    done.galleries = [name for name in pages if name.startswith(f"{COMPARISONS}/")]
    groups: list[Callable[[], int]] = [
        partial(_removed, store, pages),
        partial(_remove_temporary, store),
        partial(hide_erased, store, erased),
        partial(_remove_records, store, erased, names),
        partial(_hide_rejected, store, erased, names),
        partial(_blank_tables, store, rows, snapshots.values()),
        partial(_forget_listed, store, erased, rows, snapshots),
        partial(_blank_parts, store, CORPUS_DIRECTORY, rows),
    ]
    for group in groups:
        still_ours()
        done.files += group()
    done.unwritten = _write_missing_reports(store)
    done.uploads = end_uploads(store)
    still_ours()
    erased.finish(store)
    return done


def _read_parts(store: Store) -> dict[str, pa.Table]:
    """Part of the corpus → its ids and digests of its image files."""

    def read(name: str) -> tuple[str, pa.Table]:
        return name, store.read_table(part_file(CORPUS_DIRECTORY, name), ["image_id", "sha256"])

    with read_ahead(read, sorted(store.parts(CORPUS_DIRECTORY)), threads=4, held=8) as found:
        return dict(found)


def _choose(
    parts: Mapping[str, pa.Table], erased: Erased
) -> tuple[Erased, dict[str, set[int]], set[str]]:
    """What is to be erased by id, and by its file under whatever id; the rows; their ids."""
    contents: set[str] = set()
    for table in parts.values():
        is_asked = erased.rows(_ids(table)) & ~is_blank(table)
        contents.update(map(str, table["sha256"].filter(pa.array(is_asked)).to_pylist()))
    erased = erased.with_more((), contents)
    all_contents = pa.array(erased.contents, pa.string())
    rows: dict[str, set[int]] = {}
    names: set[str] = set()
    for name, table in parts.items():
        is_like = pc.is_in(table["sha256"], value_set=all_contents).to_numpy()
        is_gone = (erased.rows(_ids(table)) | is_like) & ~is_blank(table)
        if is_gone.any():
            rows[name] = set(np.flatnonzero(is_gone).tolist())
            names.update(_ids(table.filter(pa.array(is_gone))))
    return erased, rows, names


def _left_without_corpus(
    store: Store, parts: Collection[str], erased: Erased
) -> Iterator[tuple[str, int, str]]:
    """Part, row and id of what tables still hold of a part of the corpus that was removed."""
    for directory in [TRUTH_DIRECTORY, *_tables(store)]:
        for name in sorted(store.parts(directory)):
            part = name.partition("-")[0]  # truth has more in its names
            if part in parts:
                continue
            ids = _ids(store.read_table(part_file(directory, name), ["image_id"]))
            for row in np.flatnonzero(erased.rows(ids)).tolist():
                yield part, row, ids[row]


def _tables(store: Store) -> list[str]:
    """Directories of all tables that are aligned with the corpus."""
    return [
        directory
        for directory in stage_directories(store)
        if is_fingerprint(directory.rpartition("/")[2])
        and not directory.startswith(f"{CHECKPOINTS}/")
    ]


def _require_known(store: Store, ids: Sequence[str], parts: Mapping[str, pa.Table]) -> None:
    """Refuse ids of no image: a letter that is wrong must not pass for an image that is gone."""
    unknown = {printable(image_id): image_id for image_id in ids}
    lists = (store.read_table(name, ["image_id"]) for name in _lists(store))
    for table in chain(parts.values(), lists):  # nearly always the parts know them all
        if not unknown:
            break
        for image_id in unknown.keys() & {*_ids(table)} - {ERASED_ID}:
            del unknown[image_id]
    if strange := [*unknown.values()]:
        raise StoreError(
            f"The store {store.url} has no image {strange[0]!r} ({len(strange)} of {len(ids)} ids "
            "are unknown): give ids as the column image_id of its tables has them; nothing was "
            "erased."
        )


def _ids(table: pa.Table) -> list[str]:
    return list(map(str, table["image_id"].to_pylist()))


def _lists(store: Store, *kinds: str) -> list[str]:
    """Catalogues and rejected rows of every snapshot."""
    ends = tuple(f".{kind}.parquet" for kind in kinds or ("catalogue", "rejected"))
    return [f"{CORPUS}/{name}" for name in store.list(CORPUS) if name.endswith(ends)]


def _snapshots(store: Store) -> dict[str, Snapshot]:
    names = [n.removesuffix(".json") for n in store.list(CORPUS) if n.endswith(".json")]
    return {name: Snapshot.load(store, name) for name in names if is_fingerprint(name)}


def _pages_showing(store: Store, names: Collection[str]) -> list[str]:
    """Reports and galleries that show an image."""
    titles = [str(element("h3", name)).encode() for name in names]
    pages = [
        name
        for name in (store.files() if names else ())
        if name.endswith(".html") and name.startswith((f"{RUNS}/", f"{COMPARISONS}/"))
    ]
    return [name for name in pages if any(t in store.read_bytes(name) for t in titles)]


def _removed(store: Store, files: Sequence[str]) -> int:
    remove_files(store, files)
    return len(files)


def _remove_temporary(store: Store) -> int:
    """What killed writers left, which may hold an image; of the lease's own files none."""
    return _removed(store, [name for name in look(store) if is_temporary(name) and "/" in name])


def _remove_records(store: Store, erased: Erased, names: Collection[str]) -> int:
    """Records of packed batches that name an image; packing again makes them."""

    def tells(name: str) -> str | None:
        record = store.read_json(f"{BATCHES}/{name}")
        told = [row[0] for row in record["rows"]] + [*record["same"]]
        told += [row["image_id"] for row in record["rejected"]]
        return name if any(i in names or erased.has(i) for i in told) else None

    with read_ahead(tells, store.list(BATCHES)) as found:
        files = [f"{BATCHES}/{name}" for name in found if name]
    return _removed(store, files)


def _hide_rejected(store: Store, erased: Erased, names: Collection[str]) -> int:
    """Rejected rows stay as many as they were; what is told of a kept image goes."""
    files = 0
    for file in _lists(store, "rejected"):
        rows = store.read_table(file).to_pylist()
        told = [
            _hidden(row) if erased.has(row["image_id"] or "") else row
            for row in rows
            if not (is_of_image(row) and row["image_id"] in names)
        ]
        if told != rows:
            store.write_table(file, pa.Table.from_pylist(told, REJECTED))
            files += 1
    return files


def _hidden(row: dict[str, Any]) -> dict[str, Any]:
    said = {"stage": "list", "reason": ERASED, "message": "it was erased from the store"}
    return row | said | {"image_id": ERASED_ID, "uri": ""}


def _blank_tables(store: Store, rows: Rows, snapshots: Collection[Snapshot]) -> int:
    """Ground truth, and every table with its manifests."""
    parts = {s: p for snapshot in snapshots for s, p in scopes(snapshot).items()}
    files = _blank_parts(store, TRUTH_DIRECTORY, rows)
    for directory in _tables(store):
        names = store.list(directory)
        if not rows.keys() & _parts_in(names):
            continue
        forget(store, directory, [*rows])
        files += _blank_parts(store, directory, rows)
        for name in filter(is_manifest, names):
            told = parts.get(name.removeprefix("complete-").removesuffix(".json"), [])
            if _is_concerned(told, rows, names):
                recount(store, f"{directory}/{name}", told)
    return files


def _is_concerned(parts: Sequence[Part], rows: Rows, names: Collection[str]) -> bool:
    """Whether a table has all of these parts, and a blank row in one."""
    has_all = all(file_name(part.name) in names for part in parts)
    return has_all and any(part.name in rows for part in parts)


def _parts_in(names: Collection[str]) -> set[str]:
    return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet")}


def _blank_parts(store: Store, directory: str, rows: Rows) -> int:
    """The parts of one table; those that are blank already are not written again."""
    files = 0
    for name in sorted(store.parts(directory)):
        wanted = rows.get(name.partition("-")[0], set())
        if not wanted:
            continue
        table = store.read_table(part_file(directory, name))
        left = wanted - set(np.flatnonzero(is_blank(table)).tolist())
        if left:
            store.write_table(part_file(directory, name), blanked(table, left))
            files += 1
    return files


def _forget_listed(
    store: Store, erased: Erased, rows: Rows, snapshots: Mapping[str, Snapshot]
) -> int:
    """Catalogues: what is not in one is a dead row, or no row, of the next snapshot."""
    files = 0
    for file in _lists(store, "catalogue"):
        table = store.read_table(file)
        fingerprint = file.removeprefix(f"{CORPUS}/").removesuffix(".catalogue.parquet")
        goes = erased.rows(_ids(table))
        if snapshot := snapshots.get(fingerprint):
            numbers, places = table["part"].to_numpy(), table["row"].to_numpy()
            for index, part in enumerate(snapshot.parts):
                if part.name in rows:
                    goes |= (numbers == index) & np.isin(places, [*rows[part.name]])
        if goes.any():
            store.write_table(file, table.filter(pa.array(~goes)))
            files += 1
    return files


def _write_missing_reports(store: Store) -> list[str]:
    """Write the reports that ended runs lack; returns those of which this version cannot."""
    return [run_id for run_id in _without_report(store) if not _write_report(store, run_id)]


def _without_report(store: Store) -> Iterator[str]:
    for run_id in store.list(RUNS):
        has_ended = all(store.exists(file(run_id)) for file in (run_file, metrics_file))
        if has_ended and not store.exists(report_file(run_id)):
            yield run_id


def _write_report(store: Store, run_id: str) -> bool:
    try:
        write_report(store, load_run(store, run_id)[1])
    except (DcspError, LookupError):  # weights that are gone, files of an earlier version
        return False
    return True


def told(done: Erasure, ids: Sequence[str]) -> Iterator[str]:
    """What an erasure did, in lines that name no image but those that were asked for."""
    others = len({digest_of(name) for name in done.names} - {digest_of(name) for name in ids})
    yield f"erased: {done.rows} rows of the corpus, {done.files} files written anew or removed"
    if others and ids:
        yield f"{others} of the erased images have other ids and the same file as one of these"
    for run_id in done.unwritten:
        yield (
            f"the report of {shown(run_id)} is gone: `dcsp report STORE {shown(run_id)}` "
            "writes it anew, with the version of dcsp and the weights of that run"
        )
    for page in done.galleries:
        yield f"{shown(page)} showed an image and was removed: `dcsp compare` writes another"
    if done.uploads:
        yield f"uploads that did not end were left alone, and may hold an image: {done.uploads}"
    yield "networks keep what they learned; remove the images at their source as well"
