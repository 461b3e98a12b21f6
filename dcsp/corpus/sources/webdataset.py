"""WebDataset: tar shards whose consecutive members of one name are one sample.

The name is what comes before the first dot of a member's file name, its folder included; the rest,
in lower case, says what it is: ``jpg`` (or another image) the image; ``json`` with ``tags`` (list
or text) and perhaps ``split``; ``cls`` a class, by its position in ``corpus.classes`` from 0 or by
name; ``txt`` tags as text; ``seg.png`` or ``mask.png`` a mask of class ids, for evaluation alone.
Tags are those of ``json`` where it has an entry of that name, else of ``cls``, else of ``txt``.
Other members and hidden ones are counted. Without ``split`` the first word of the shard's
file name, else of its folder, may name one (``val-000.tar``, ``val/000.tar``).

Archives are read as they lie (:mod:`dcsp.corpus.sources.tar`): listing reads headers and tags,
packing the bytes of images, by their offsets.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import IO, Any

from dcsp.corpus.sources.base import Listed, SourceRow, is_listed, is_split, split_of
from dcsp.corpus.sources.faults import ask_of
from dcsp.corpus.sources.files import is_local, open_uri, require_same, suffix_kind
from dcsp.corpus.sources.shards import DAMAGED, TRUNCATED, Shard, ShardedSource, find_shards
from dcsp.corpus.sources.tag_tables import split_tags
from dcsp.corpus.sources.tar import Member, TarError, read_members
from dcsp.errors import CorpusError
from dcsp.images.decode import IMAGE_SUFFIXES
from dcsp.labels import tag_of_position
from dcsp.store.remote import open_filesystem
from dcsp.tables.snapshot import TRAIN

CHUNK_BYTES = 128 * 2**20
"""Bytes of a shard after which its rows go into another part; a remote chunk is fetched whole."""
MEMBER_BYTES = 256 * 2**20
"""Largest image file that is read."""
TAG_BYTES = 2**20
"""Largest member with tags that is read."""
_MASKS = ("seg.png", "mask.png")
_TAGS = ("json", "cls", "txt")
_KNOWN = frozenset((*IMAGE_SUFFIXES, *_MASKS, *_TAGS))


@dataclass
class _Sample:
    """Consecutive members of one name."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    reason: str = ""
    problem: str = ""

    def refuse(self, reason: str, problem: str) -> None:
        """Say what is wrong; the first fault counts."""
        if not self.reason:
            self.reason, self.problem = reason, problem

    def add(self, kind: str, member: Member) -> None:
        """Take a member that this module knows the kind of."""
        if kind in self.members:
            self.refuse("duplicate_member", f"it has two members {member.name}: keep one")
        elif not member.is_file:
            message = f"{member.name} is a link, a device or a sparse file, and is not followed"
            self.refuse("not_a_file", message)
        self.members.setdefault(kind, member)

    def image(self) -> Member | None:
        """The image, which there must be one of, not too large to be read."""
        kinds = [kind for kind in self.members if kind in IMAGE_SUFFIXES]
        if not kinds:
            self.refuse("missing", "it has no image")
            return None
        if len(kinds) > 1:
            names = " and ".join(self.members[kind].name for kind in kinds[:2])
            self.refuse("several_images", f"it has {names}: call a mask NAME.seg.png")
        for kind in (*kinds, *_MASKS):
            member = self.members.get(kind)
            if member and member.size > MEMBER_BYTES:
                message = f"{member.name} has {member.size} bytes, more than {MEMBER_BYTES}"
                self.refuse("oversized", message)
        return self.members[kinds[0]]


@dataclass(frozen=True)
class WebDatasetSource(ShardedSource):
    """A tar file, or every ``.tar`` file below a folder.

    Attributes:
        root: Local path or URL of the file or folder.
        splits: Splits to list.
        part_rows: As many rows of a shard are taken together and become whole parts.
    """

    root: str
    splits: tuple[str, ...]
    part_rows: int

    def shards(self) -> tuple[list[Shard], Counter[str]]:
        """The files; see :meth:`dcsp.corpus.sources.shards.ShardedSource.shards`.

        Compressed ones are among them, so that they are told of and not passed over.
        """
        return find_shards(self.root, r"\.(tar|tgz|tar\.\w+)", "tar")

    def list_shard(self, shard: Shard) -> Listed:
        """The rows of one file; see :meth:`dcsp.corpus.sources.shards.ShardedSource.list_shard`."""
        return ask_of(shard.uri, lambda: self._listed(shard))

    def _listed(self, shard: Shard) -> Listed:
        placed: list[_Placed] = []
        faults: list[SourceRow] = []
        others: Counter[str] = Counter()
        samples = 0
        with open_uri(shard.uri) as file:
            try:
                for sample in _samples(read_members(file, file.seek(0, io.SEEK_END)), others):
                    samples += 1
                    if found := self._place(shard, sample, file):
                        placed.append(found)
            except TarError as error:
                if not error.offset:
                    raise CorpusError(f"{shard.uri} cannot be read: {error}.") from error
                reason = TRUNCATED if error.truncated else DAMAGED
                faults.append(self.fault(shard, reason, f"{error}: write it anew"))
        rows = [*_in_chunks(placed, self.part_rows), *faults]
        found_all = samples + others.total() + len(faults)
        return Listed(rows, found_all, samples - len(placed), others)

    def read(self, row: SourceRow) -> bytes:
        """The image of a row."""
        return _content(row, row.uri)

    def read_mask(self, row: SourceRow) -> bytes | None:
        """The mask of a row, ``None`` where there is none."""
        return None if row.mask_uri is None else _content(row, row.mask_uri)

    def _place(self, shard: Shard, sample: _Sample, file: IO[bytes]) -> _Placed | None:
        """The row of a sample, and where its bytes are; None in a split that is not wanted."""
        image = sample.image()
        tags, stated = ((), None) if sample.reason else _tags(sample, file)
        split = split_of(stated) if stated is not None else _split_of_name(shard.name)
        if not is_listed(split, self.splits):
            return None
        first = image or next(iter(sample.members.values()))
        mask = next((sample.members[kind] for kind in _MASKS if kind in sample.members), None)
        used = [] if sample.reason else [member for member in (image, mask) if member]
        row = SourceRow(
            image_id=f"{shard.name}/{sample.key}",
            uri=_uri(shard, first),
            split=split,
            tags=tags,
            mask_uri=_uri(shard, mask) if mask else None,
            etag=shard.etag,
            shard=shard.uri,
            problem=sample.problem,
            reason=sample.reason or "unreadable_tags",
        )
        starts, ends = [m.offset for m in used], [m.end for m in used]
        return row, min(starts, default=first.offset), max(ends, default=first.offset)


_Placed = tuple[SourceRow, int, int]
"""A row, and the first byte and the end of what is read of it."""


def _samples(members: Iterable[Member], others: Counter[str]) -> Iterator[_Sample]:
    """Consecutive members of one name that hold something known; the last one once it has ended.

    Args:
        members: Of a shard, in order.
        others: Counts the members that are no part of a sample, by what they are.
    """
    sample = _Sample("")
    for member in members:
        folder, slash, file = re.sub(r"^(\./)+", "", member.name).rpartition("/")
        name, dot, kind = file.partition(".")
        if member.is_folder:
            continue
        if not (name and dot):
            others["hidden" if dot else suffix_kind("")] += 1
            continue
        key = folder + slash + name
        if key != sample.key:
            if sample.members:
                yield sample
            sample = _Sample(key)
        if kind.lower() in _KNOWN:
            sample.add(kind.lower(), member)
        else:
            _, dot, last = kind.lower().rpartition(".")
            others[suffix_kind(f"*.{last}" if dot else last)] += 1
    if sample.members:
        yield sample


def _tags(sample: _Sample, file: IO[bytes]) -> tuple[tuple[str, ...], object]:
    """The tags of a sample, and the split where it states one; what cannot be read is told."""
    try:
        told = _texts(sample, file)
        content = json.loads(told["json"]) if "json" in told else {}
        if not isinstance(content, Mapping):
            raise ValueError("no JSON object")
        tags: Any = content.get("tags")
        if tags is not None and not isinstance(tags, list | str):
            raise ValueError("tags are neither a list nor text")
    except (ValueError, RecursionError) as error:
        sample.refuse("unreadable_tags", f"its tags cannot be read ({error})")
        return (), None
    if tags is not None:
        found = split_tags(tags)
    elif "cls" in told:
        classes = split_tags(told["cls"].replace("\n", ","))
        found = [tag_of_position(int(c)) if re.fullmatch("[0-9]{1,9}", c) else c for c in classes]
    else:
        found = split_tags(told.get("txt", "").replace("\n", ","))
    return tuple(sorted(set(found))), content.get("split")


def _texts(sample: _Sample, file: IO[bytes]) -> dict[str, str]:
    """The members with tags, as text.

    Raises:
        ValueError: One is too large or no UTF-8.
    """
    texts = {}
    for kind in _TAGS:
        if member := sample.members.get(kind):
            if member.size > TAG_BYTES:
                raise ValueError(f"{member.name} has {member.size} bytes, more than {TAG_BYTES}")
            file.seek(member.offset)
            texts[kind] = file.read(member.size).decode("utf-8-sig")
    return texts


def _split_of_name(name: str) -> str:
    """The split that the name of a shard begins with, or that of its folder; else training."""
    for step in reversed(name.split("/")[-2:]):
        word = re.match("[A-Za-z]+", step)
        if word and is_split(split_of(word.group())):
            return split_of(word.group())
    return TRAIN


def _in_chunks(placed: Iterable[_Placed], part_rows: int) -> Iterator[SourceRow]:
    """Rows with what they are read together with: ``part_rows`` rows, or ``CHUNK_BYTES``."""
    chunk: list[SourceRow] = []
    start = stop = 0
    for row, first, end in placed:
        if len(chunk) == part_rows or (chunk and end - start > CHUNK_BYTES):
            yield from _of_chunk(chunk, start, stop)
            chunk = []
        if not chunk:
            start = stop = first
        chunk.append(row)
        stop = max(stop, end)
    yield from _of_chunk(chunk, start, stop)


def _of_chunk(rows: Iterable[SourceRow], start: int, stop: int) -> Iterator[SourceRow]:
    return (replace(row, shard=f"{row.shard}#{start:012d}-{stop:012d}") for row in rows)


def _uri(shard: Shard, member: Member) -> str:
    return f"{shard.uri}#{member.offset}+{member.size}/{member.name}"


def _content(row: SourceRow, uri: str) -> bytes:
    """The bytes of a member.

    Raises:
        ImageError: With reason ``missing`` where the shard went away or is another one by now.
    """
    shard, _, span = row.shard.rpartition("#")
    offset, size = map(int, uri[len(shard) + 1 :].partition("/")[0].split("+"))
    if is_local(shard):
        with open_uri(shard) as file:
            require_same(shard, row.etag)
            file.seek(offset)
            return file.read(size)
    start, stop = map(int, span.split("-"))
    if stop - start > CHUNK_BYTES:  # of one sample, with something large between image and mask
        start, stop = offset, offset + size
    return bytes(_fetch(shard, row.etag, start, stop)[offset - start :][:size])


@lru_cache(maxsize=1)
def _fetch(shard: str, etag: str, start: int, stop: int) -> memoryview:
    """A range of a remote shard; that of the latest rows stays."""
    require_same(shard, etag)
    fs, path = open_filesystem(shard)
    return memoryview(ask_of(shard, lambda: fs.cat_file(path, start=start, end=stop)))
