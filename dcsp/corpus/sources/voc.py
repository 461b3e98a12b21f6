"""Corpora in the layout of PASCAL VOC: ``JPEGImages``, ``ImageSets``, ``Annotations``, masks.

Splits come from ``ImageSets/Segmentation`` where that folder has them, else from
``ImageSets/Main``. Tags come from an image's ``Annotations`` XML, else from
``ImageSets/Main/<class>_<list>.txt``, where the list is train, val, trainval or a split's own.
A line of a split's list starts with an id, or with the path of an image, as the lists of DCSP's and
other authors do (``/PASCAL_VOC_Aug/JPEGImages/….jpg …``).
An object that the annotators called difficult (an XML flag, 0 in ``Main``) is present all the same,
so that both places say one thing. Masks serve evaluation alone; they come from
``SegmentationClassAug``, where SBD's are, and for images that have none there from
``SegmentationClass``.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from dcsp.corpus.sources.base import Listed, SourceRow
from dcsp.corpus.sources.files import (
    FILE,
    Folder,
    is_image,
    kind_of,
    read_uri,
    require_folder,
    stem,
    suffix,
)
from dcsp.errors import CorpusError, ImageError
from dcsp.images.decode import IMAGE_SUFFIXES

_SPLIT_FOLDERS = ("ImageSets/Segmentation", "ImageSets/Main")
_MASK_FOLDERS = ("SegmentationClass", "SegmentationClassAug")  # the later one's are taken
_TAG_LISTS = ("train", "val", "trainval")
_ORIGINS = {
    "trainaug": " (VOC's train list and all images of SBD, the Semantic Boundaries Dataset, that "
    "are not in VOC's val list: 10,582 ids; it comes with SBD's augmented masks, not with VOC)"
}


@dataclass(frozen=True)
class VOCSource:
    """A VOC year folder, such as ``VOCdevkit/VOC2012``; masks hold ids of ``corpus.classes``.

    Attributes:
        root: Local path or URL of the year folder.
        splits: Splits to list, where the source has them.
        split_files: Split → name of its list, without ``.txt``, where that is not the split's name.
    """

    root: str
    splits: tuple[str, ...]
    split_files: Mapping[str, str] = field(default_factory=dict)

    def list_rows(self) -> Listed:
        """List the images of the wanted splits; see :class:`dcsp.corpus.sources.base.Source`."""
        folder = require_folder(self.root, "corpus.root")
        if not folder.exists("JPEGImages"):
            raise CorpusError(
                f"corpus.root={self.root} has no folder JPEGImages: give the folder of one VOC "
                "year, such as VOCdevkit/VOC2012."
            )
        ids = self._read_splits(folder)
        entries = folder.entries("JPEGImages")
        files = {n: e.etag for n, e in entries.items() if e.kind == FILE and is_image(n)}
        images = _by_stem(files)
        masks = _find_masks(folder)
        annotated = self._read_annotations(folder, set().union(*ids.values()))
        listed = _read_image_tags(folder, {*_TAG_LISTS, *map(self._list_of, ids)})
        rows: list[SourceRow] = []
        used: set[str] = set()
        for split, names in ids.items():
            for name in names:
                tags, problem = annotated.get(name) or (tuple(sorted(listed[name])), "")
                file, etag = images.get(name, (f"{name}.jpg", ""))
                used.add(file)
                mask, mask_etag = masks.get(name, ("", ""))
                rows.append(
                    SourceRow(
                        image_id=name,
                        uri=folder.uri(f"JPEGImages/{file}"),
                        split=split,
                        tags=tags,
                        mask_uri=folder.uri(mask) if mask else None,
                        etag=f"{etag}/{mask_etag}" if mask else etag,
                        problem=problem,
                    )
                )
        others = Counter(kind_of(n, e) for n, e in entries.items() if n not in files)
        idle = sorted(masks[name][0] for name in masks.keys() - images.keys())
        return Listed(
            rows=rows,
            found=len(entries) + len(rows) - len(used & files.keys()),  # lists may name one twice
            skipped=len(files.keys() - used),
            others=others,
            idle_masks=len(idle),
            idle_mask=idle[0] if idle else "",
        )

    def read(self, row: SourceRow) -> bytes:
        """The image file of a row."""
        return read_uri(row.uri)

    def read_mask(self, row: SourceRow) -> bytes | None:
        """The mask file of a row, ``None`` where there is none."""
        return None if row.mask_uri is None else read_uri(row.mask_uri)

    def _list_of(self, split: str) -> str:
        return self.split_files.get(split, split)

    def _read_splits(self, folder: Folder) -> dict[str, list[str]]:
        lists = self._find_lists(folder)
        return {
            split: [_image_id(line.split()[0]) for line in _lines(folder, lists[split])]
            for split in self.splits
            if split in lists
        }

    def _find_lists(self, folder: Folder) -> dict[str, str]:
        """Split → its list; one folder has all lists that are called like their split."""
        files = {place: folder.find(place) for place in _SPLIT_FOLDERS}
        named = {s: self._named_list(s, files) for s in self.splits if s in self.split_files}
        others = [split for split in self.splits if split not in named]
        for place in _SPLIT_FOLDERS:
            found = {s: f"{place}/{s}.txt" for s in others if f"{s}.txt" in files[place]}
            if found:
                return found | named
        if named:
            return named
        names = " or ".join(f"{split}.txt" for split in self.splits)
        raise CorpusError(
            f"corpus.root={self.root} has neither ImageSets/Segmentation nor ImageSets/Main with "
            f"{names}: write the ids of each split there, one a line."
        )

    def _named_list(self, split: str, files: Mapping[str, Collection[str]]) -> str:
        name = f"{self.split_files[split]}.txt"
        for place in _SPLIT_FOLDERS:
            if name in files[place]:
                return f"{place}/{name}"
        raise CorpusError(
            f"corpus.split_files: {self.root} has no ImageSets/Segmentation/{name}, the list of "
            f"the split {split}: put it there{_ORIGINS.get(self.split_files[split], '')}, or name "
            "another list."
        )

    @staticmethod
    def _read_annotations(
        folder: Folder, ids: Iterable[str]
    ) -> dict[str, tuple[tuple[str, ...], str]]:
        """Image id → (tags, problem), for the images that have an XML file."""
        there = folder.find("Annotations")
        files = [f"Annotations/{name}.xml" for name in sorted(ids) if f"{name}.xml" in there]
        return {
            stem(file).removeprefix("Annotations/"): _parse_annotation(data)
            for file, data in folder.read_many(files).items()
        }


def _parse_annotation(data: bytes | ImageError) -> tuple[tuple[str, ...], str]:
    if isinstance(data, ImageError):
        return (), str(data)
    try:
        tree = ET.fromstring(data)
    except ET.ParseError as error:
        return (), f"its Annotations file is not valid XML ({error})"
    names = {(name.text or "").strip() for name in tree.iterfind("object/name")}
    return tuple(sorted(names - {""})), ""


def _read_image_tags(folder: Folder, lists: Collection[str]) -> defaultdict[str, set[str]]:
    """Image id → tags, from the lists of ``ImageSets/Main`` with these names behind the class.

    An image of one split may stand in the list of another one: its tags are the same.
    """
    tags: defaultdict[str, set[str]] = defaultdict(set)
    names = "|".join(map(re.escape, sorted(lists)))
    for file in folder.find("ImageSets/Main"):
        match = re.fullmatch(rf"(.+?)_(?:{names})\.txt", file)  # a list's name may hold a _
        if not match:
            continue
        for line in _lines(folder, f"ImageSets/Main/{file}"):
            name, *mark = line.split()
            if mark and mark[0] in ("1", "0"):
                tags[name].add(match[1])
    return tags


def _find_masks(folder: Folder) -> dict[str, tuple[str, str]]:
    """Image id → (file, etag) of its mask."""
    return {
        stem(name): (f"{place}/{name}", etag)
        for place in _MASK_FOLDERS
        for name, etag in folder.find(place).items()
        if suffix(name) == "png"
    }


def _image_id(word: str) -> str:
    _, folder, name = word.rpartition("JPEGImages/")
    return stem(name) if folder else word


def _lines(folder: Folder, name: str) -> list[str]:
    try:
        text = read_uri(folder.uri(name)).decode("utf-8-sig")
    except ImageError as error:
        raise CorpusError(f"{error}.") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{folder.uri(name)} is not UTF-8 text: write it anew.") from error
    return [line for line in text.splitlines() if line.strip()]


def _by_stem(files: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Image id → (file, etag); of several files of one id the preferred extension."""
    ranked = sorted(files, key=lambda file: IMAGE_SUFFIXES.index(suffix(file)), reverse=True)
    return {stem(file): (file, files[file]) for file in ranked}
