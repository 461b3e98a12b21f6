"""A folder of images with a table of tags: the corpus of people who bring their own.

Images may lie in subfolders; the id of an image is its path below the root without extension. Tag
tables are what :mod:`dcsp.corpus.sources.tag_tables` reads: columns ``image`` and ``tags``, or
COCO's JSON. Several rows of one image add up; an image without a row is kept without tags; a row
that means no image, or may mean several (:mod:`dcsp.corpus.sources.names`), is rejected as missing.
In the place of a file a row may name an http(s) URL, of a host that the config allows
(:func:`dcsp.corpus.sources.urls.url_id` says what such an image is called). Rows without a split
are of the training split; an image of several splits, or of one that
:func:`dcsp.corpus.sources.base.split_of` does not know, is rejected.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dcsp.config import HttpSettings
from dcsp.corpus.sources.base import Listed, SourceRow, is_listed, is_valid_id
from dcsp.corpus.sources.fetch import fetch
from dcsp.corpus.sources.files import (
    CLOSED_FOLDER,
    FILE,
    HIDDEN,
    LINKED_FOLDER,
    Entry,
    Folder,
    is_image,
    kind_of,
    read_uri,
    require_folder,
    stem,
    told_kinds,
)
from dcsp.corpus.sources.names import ImageFiles, masks_of
from dcsp.corpus.sources.tag_tables import Tagged, read_tags
from dcsp.corpus.sources.urls import is_url, require_listable, url_id
from dcsp.errors import CorpusError, ImageError
from dcsp.tables.layout import MARKS, is_mark
from dcsp.tables.snapshot import TRAIN
from dcsp.text import without_credentials

_TABLE = re.compile(r"tags\.(csv|tsv|jsonl|parquet)", re.IGNORECASE)
_NOT_LISTED = {
    LINKED_FOLDER: "links to folders are not followed: copy it, or make it corpus.root",
    CLOSED_FOLDER: "this account may not read the folder: change its permissions",
}


@dataclass(frozen=True)
class FolderSource:
    """Images below a folder.

    Attributes:
        root: Local path or URL of the folder.
        splits: Splits to list.
        tags: Paths or URLs of tag tables; none: the ``tags.csv|tsv|jsonl|parquet`` in the root,
            and where there is none, no image has tags.
        masks: Folder of masks of class ids, PNG files named like the images; used by evaluation
            alone.
        tagged: Whether a tag table counts; without one every image is a training image.
        http: Which URLs in a tag table are fetched, and how.
    """

    root: str
    splits: tuple[str, ...]
    tags: tuple[str, ...] = ()
    masks: str | None = None
    tagged: bool = True
    http: HttpSettings = field(default_factory=HttpSettings)

    def list_rows(self) -> Listed:
        """List the images of the wanted splits; see :class:`dcsp.corpus.sources.base.Source`."""
        folder = require_folder(self.root, "corpus.root")
        found = folder.entries()
        entries = {name: entry for name, entry in found.items() if entry.kind != HIDDEN}
        self._refuse_own_masks(folder, entries)
        files = {name: entry.etag for name, entry in entries.items() if self._is_image(name, entry)}
        images = ImageFiles(self.root, files)
        table = self._read_tables(entries, images) if self.tagged else {}
        named = _by_file(table, images)
        left = [name for name in found if name not in files and name not in named]
        aside = {name: found[name] for name in left if not self._is_of_images(name, found[name])}
        others = Counter(kind_of(n, e) for n, e in aside.items() if e.kind not in _NOT_LISTED)
        if not files and not table:
            told = f": what is there is no image ({told_kinds(others)})" if others else ""
            raise CorpusError(
                f"corpus.root={self.root} holds no images{told}: give a folder with files such as "
                ".jpg or .png in it or below it."
            )
        masks = require_folder(self.masks, "corpus.masks").find() if self.masks else {}
        names = {**files, **named}
        mask_of = masks_of((self._address(folder, name)[0] for name in names), masks)
        etags = {image_id: (mask, masks[mask]) for image_id, mask in mask_of.items()}
        judged = list(self._rows(folder, images, entries, named, etags))
        rows = [row for row in judged if row is not None]
        skipped = judged.count(None)
        rows += [self._not_listed(n, e.kind) for n, e in aside.items() if e.kind in _NOT_LISTED]
        idle = sorted(filter(is_image, masks.keys() - mask_of.values()))
        return Listed(
            rows=rows,
            found=len(found) - (len(left) - len(aside)) + len(named.keys() - found.keys()),
            skipped=skipped,
            others=others,
            idle_masks=len(idle),
            idle_mask=idle[0] if idle else "",
        )

    def _rows(
        self,
        folder: Folder,
        images: ImageFiles,
        entries: Mapping[str, Entry],
        named: Mapping[str, Tagged],
        masks: Mapping[str, tuple[str, str]],
    ) -> Iterator[SourceRow | None]:
        """The rows of images and of what the tag table names; None for one of no wanted split.

        Args:
            folder: The root.
            images: The image files in it.
            entries: All that is in it and not hidden.
            named: What the tag table says, by file or by name.
            masks: Image id → its mask and the etag of that.
        """
        example = (
            "" if any(name in images.names for name in named) else next(iter(images.names), "")
        )
        for name in dict.fromkeys((*images.names, *named)):
            told = named.get(name, Tagged())
            listed = sorted(s for s in told.splits or {TRAIN} if is_listed(s, self.splits))
            if not listed:
                yield None
                continue
            image_id, uri, fault = self._address(folder, name)
            if not fault and len(told.splits) > 1:
                message = f"its rows name the splits {sorted(told.splits)}: keep one"
                fault = ImageError("unreadable_tags", message)
            if name not in images.names and _is_absent(name, entries):
                fault = fault or _absence(name, images, example)
                if images.has_id(image_id):  # which is that of a file
                    image_id = f"{name}/"
            etag = entries[name].etag if name in images.names else ""
            mask, mask_etag = masks.get(image_id, ("", ""))
            yield SourceRow(
                image_id=image_id,
                uri=uri,
                split=listed[0],
                tags=tuple(sorted(told.tags)),
                mask_uri=f"{(self.masks or '').rstrip('/')}/{mask}" if mask else None,
                etag=f"{etag}/{mask_etag}" if mask else etag,
                problem=str(fault or ""),
                reason=fault.reason if fault else "unreadable_tags",
            )

    def read(self, row: SourceRow) -> bytes:
        """The image file of a row."""
        return fetch(row.uri, self.http) if is_url(row.uri) else read_uri(row.uri)

    def read_mask(self, row: SourceRow) -> bytes | None:
        """The mask file of a row, ``None`` where there is none."""
        return None if row.mask_uri is None else read_uri(row.mask_uri)

    def _refuse_own_masks(self, folder: Folder, entries: Iterable[str]) -> None:
        """See that no masks that this program wrote are taken for images.

        Raises:
            CorpusError: The root is, or holds, a folder of them.
        """
        for name in entries:
            place, _, file = name.rpartition("/")
            if file in MARKS and not self._has_masks(place) and _is_mark(folder.uri(name), file):
                raise CorpusError(
                    f"{folder.uri(place).rstrip('/')} holds the masks that {MARKS[file]} wrote, "
                    f"and lies in corpus.root={self.root}: masks are no images; move that folder "
                    "elsewhere."
                )

    def _address(self, folder: Folder, name: str) -> tuple[str, str, ImageError | None]:
        """Id and URI of an image as it is named, and why it must not be looked for."""
        if not is_url(name):
            return stem(name), folder.uri(name), None
        try:
            require_listable(name, self.http.hosts)
        except ImageError as error:
            return url_id(name), without_credentials(name), error
        return url_id(name), name, None

    def _has_masks(self, name: str) -> bool:
        """Whether a folder is, or holds, that of the masks."""
        return f"{(self.masks or '').rstrip('/')}/".startswith(f"{Folder(self.root).uri(name)}/")

    def _not_listed(self, name: str, kind: str) -> SourceRow:
        """A row that says that what is in a folder is not listed; its id is that of no image."""
        return SourceRow(
            image_id=f"{name}/",
            uri=Folder(self.root).uri(name),
            split=self.splits[0],
            tags=(),
            mask_uri=None,
            etag="",
            problem=_NOT_LISTED[kind],
            reason=LINKED_FOLDER if kind == LINKED_FOLDER else CLOSED_FOLDER,
        )

    def _is_image(self, name: str, entry: Entry) -> bool:
        return entry.kind == FILE and is_image(name) and not self._is_below_masks(name)

    def _is_below_masks(self, name: str) -> bool:
        if not self.masks:
            return False
        return Folder(self.root).uri(name).startswith(self.masks.rstrip("/") + "/")

    def _is_of_images(self, name: str, entry: Entry) -> bool:
        """Whether something is a mask, a folder of masks or a tag table."""
        if entry.kind == LINKED_FOLDER:
            return self._has_masks(name)
        if is_image(name) and self._is_below_masks(name):
            return entry.kind == FILE
        return bool(_TABLE.fullmatch(name)) or Folder(self.root).uri(name) in self.tags

    def _read_tables(self, entries: Iterable[str], images: ImageFiles) -> dict[str, Tagged]:
        """Image as it is written → what is said of it, from all rows of all tables."""
        own = [name for name in entries if _TABLE.fullmatch(name)]
        if len(own) > 1 and not self.tags:
            raise CorpusError(
                f"corpus.root={self.root} holds {' and '.join(own)}: name those that count in "
                "corpus.tags."
            )
        told: dict[str, Tagged] = {}
        for uri in self.tags or map(Folder(self.root).uri, own):
            for image, tagged in read_tags(uri, images).items():
                entry = told.setdefault(image, Tagged())
                entry.tags |= tagged.tags
                entry.splits |= tagged.splits
        return told


def _by_file(table: Mapping[str, Tagged], images: ImageFiles) -> dict[str, Tagged]:
    """File below the root, else the image as it is written → what the table says."""
    meant = images.meant_by(name for name in table if not is_url(name))
    named: dict[str, Tagged] = {}
    for image, told in table.items():
        for name in meant.get(image) or [image]:
            entry = named.setdefault(name, Tagged())
            entry.tags |= told.tags
            entry.splits |= told.splits
    return named


def _is_mark(uri: str, file: str) -> bool:
    """Whether a file is the mark of a folder of masks, and no other file of that name."""
    try:
        mark = json.loads(read_uri(uri))
    except (ImageError, ValueError):
        return False
    return is_mark(file, mark)


def _is_absent(name: str, entries: Mapping[str, Entry]) -> bool:
    """Whether there can be no file of this name: hidden ones and links are not listed."""
    steps = name.split("/")
    above = ("/".join(steps[:count]) for count in range(1, len(steps) + 1))
    is_hidden = any(step.startswith(".") and step not in (".", "..") for step in steps)
    return not (is_url(name) or is_hidden or any(path in entries for path in above))


def _absence(name: str, images: ImageFiles, example: str) -> ImageError:
    """What to tell of an image that is not there: those that could be meant, else an example."""
    if not name:
        return ImageError("invalid_id", "a row of the tag table has tags and names no image")
    message = f"the tag table names {name!r}, and there is no such file below corpus.root"
    if like := images.like(name):
        message += f": did you mean {' or '.join(like)}?"
    elif example:
        message += f", where files are called as {example}"
    return ImageError("missing" if is_valid_id(stem(name)) else "invalid_id", message)
