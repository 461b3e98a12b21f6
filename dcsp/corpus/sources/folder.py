"""A folder of images with a table of tags: the corpus of people who bring their own.

Images may lie in subfolders; the id of an image is its path below the root without extension. Tag
tables are what :mod:`dcsp.corpus.sources.tag_tables` reads: columns ``image`` and ``tags``, or
COCO's JSON. Several rows of one image add up; an image without a row is kept without tags; a row
without an image is rejected as missing. In the place of a file a row may name an http(s) URL, of a
host that the config allows (:func:`dcsp.corpus.sources.urls.url_id` says what such an image is
called). Rows without a split are of the training split; an image of several splits, or of one that
:func:`dcsp.corpus.sources.base.split_of` does not know, is rejected.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from dcsp.config import HttpSettings
from dcsp.corpus.sources.base import SourceRow, is_listed
from dcsp.corpus.sources.fetch import fetch
from dcsp.corpus.sources.files import IMAGE_SUFFIXES, Folder, read_uri, require_folder, stem, suffix
from dcsp.corpus.sources.tag_tables import Tagged, read_tags
from dcsp.corpus.sources.urls import is_url, require_listable, url_id, without_secrets
from dcsp.errors import CorpusError, ImageError
from dcsp.tables.snapshot import TRAIN

_TABLES = ("tags.csv", "tags.jsonl", "tags.parquet")


@dataclass(frozen=True)
class FolderSource:
    """Images below a folder.

    Attributes:
        root: Local path or URL of the folder.
        splits: Splits to list.
        tags: Paths or URLs of tag tables; none: ``tags.csv|jsonl|parquet`` in the root, and
            where there is none, no image has tags.
        masks: Folder of PNG masks of class ids, named like the images; used by evaluation alone.
        tagged: Whether a tag table counts; without one every image is a training image.
        http: Which URLs in a tag table are fetched, and how.
    """

    root: str
    splits: tuple[str, ...]
    tags: tuple[str, ...] = ()
    masks: str | None = None
    tagged: bool = True
    http: HttpSettings = field(default_factory=HttpSettings)

    def list_rows(self) -> list[SourceRow]:
        """List the images of the wanted splits; see :class:`dcsp.corpus.sources.base.Source`."""
        folder = require_folder(self.root, "corpus.root")
        entries = folder.entries()
        files = {
            name: entry.etag
            for name, entry in entries.items()
            if self._is_image(name) and not entry.is_linked_folder
        }
        table = self._read_tables(folder, files) if self.tagged else {}
        if not files and not table:
            raise CorpusError(
                f"corpus.root={self.root} holds no images: give a folder with files such as .jpg "
                "or .png in it or below it."
            )
        named = _by_file(table, files)
        masks = require_folder(self.masks, "corpus.masks").find() if self.masks else {}
        rows: list[SourceRow] = []
        for name in dict.fromkeys((*files, *named)):
            told = named.get(name, Tagged())
            listed = sorted(s for s in told.splits or {TRAIN} if is_listed(s, self.splits))
            if not listed:
                continue
            image_id, uri, refusal = self._address(folder, name)
            mask = f"{image_id}.png"
            etag = files.get(name, "")
            conflict = f"its rows name the splits {sorted(told.splits)}: keep one"
            rows.append(
                SourceRow(
                    image_id=image_id,
                    uri=uri,
                    split=listed[0],
                    tags=tuple(sorted(told.tags)),
                    mask_uri=f"{(self.masks or '').rstrip('/')}/{mask}" if mask in masks else None,
                    etag=f"{etag}/{masks[mask]}" if mask in masks else etag,
                    problem=str(refusal or (conflict if len(told.splits) > 1 else "")),
                    reason=refusal.reason if refusal else "unreadable_tags",
                )
            )
        links = [name for name, entry in entries.items() if entry.is_linked_folder]
        return rows + [self._linked(name) for name in links if not self._has_masks(name)]

    def read(self, row: SourceRow) -> bytes:
        """The image file of a row."""
        if is_url(row.uri):
            return fetch(row.uri, self.http)
        if not suffix(row.uri):
            raise ImageError("missing", f"the tag table names {row.uri}: no such image")
        return read_uri(row.uri)

    def read_mask(self, row: SourceRow) -> bytes | None:
        """The mask file of a row, ``None`` where there is none."""
        return None if row.mask_uri is None else read_uri(row.mask_uri)

    def _address(self, folder: Folder, name: str) -> tuple[str, str, ImageError | None]:
        """Id and URI of an image as it is named, and why it must not be looked for."""
        if not is_url(name):
            return stem(name), folder.uri(name), None
        try:
            require_listable(name, self.http.hosts)
        except ImageError as error:
            return url_id(name), without_secrets(name), error
        return url_id(name), name, None

    def _has_masks(self, name: str) -> bool:
        """Whether a folder is, or holds, that of the masks."""
        return f"{(self.masks or '').rstrip('/')}/".startswith(f"{Folder(self.root).uri(name)}/")

    def _linked(self, name: str) -> SourceRow:
        """A row that says that its images are not listed; its id is that of no image."""
        return SourceRow(
            image_id=f"{name}/",
            uri=Folder(self.root).uri(name),
            split=self.splits[0],
            tags=(),
            mask_uri=None,
            etag="",
            problem="links to folders are not followed: copy it, or make it corpus.root",
            reason="linked_folder",
        )

    def _is_image(self, name: str) -> bool:
        inside = Folder(self.root).uri(name)
        return suffix(name) in IMAGE_SUFFIXES and not (
            self.masks and inside.startswith(self.masks.rstrip("/") + "/")
        )

    def _read_tables(self, folder: Folder, files: Collection[str]) -> dict[str, Tagged]:
        """Image as it is written → what is said of it, from all rows of all tables."""
        own = [folder.uri(name) for name in _TABLES if folder.exists(name)]
        told: dict[str, Tagged] = {}
        for uri in self.tags or own[:1]:
            for image, tagged in read_tags(uri, files).items():
                entry = told.setdefault(image, Tagged())
                entry.tags |= tagged.tags
                entry.splits |= tagged.splits
        return told


def _by_file(table: Mapping[str, Tagged], files: Mapping[str, str]) -> dict[str, Tagged]:
    """File below the root → what the table says; images are named with or without extension."""
    by_id: dict[str, list[str]] = {}
    for file in files:
        by_id.setdefault(stem(file), []).append(file)
    named: dict[str, Tagged] = {}
    for image, told in table.items():
        for name in [image] if image in files else by_id.get(image, [image]):
            entry = named.setdefault(name, Tagged())
            entry.tags |= told.tags
            entry.splits |= told.splits
    return named
