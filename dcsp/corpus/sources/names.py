"""Which image of a folder a tag table means: the one it names, else the only one it can mean."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import takewhile
from urllib.parse import unquote

from dcsp.corpus.sources.files import is_image, is_local, stem


class ImageFiles:
    """The images below a folder, by every name that can mean one of them.

    Attributes:
        root: Local path or URL of the folder.
        names: Their paths below it.
    """

    def __init__(self, root: str, names: Iterable[str]) -> None:
        """Index the images.

        Args:
            root: Local path or URL of the folder.
            names: Paths of the images below it.
        """
        self.root = root
        self.names = dict.fromkeys(names)
        tops = (root, os.path.realpath(root)) if root and is_local(root) else (root,)
        steps = [_plain(top).split("/") for top in tops]
        self._starts = tuple("/".join(top) + "/" for top in steps)
        self._ends = {"/".join(top[i:]) for top in steps for i in range(1, len(top))}
        self._by_id = _grouped((stem(name), name) for name in self.names)

    def has_id(self, image_id: str) -> bool:
        """Whether an image has this id: its path without extension."""
        return image_id in self._by_id

    def below(self, uri: str) -> str:
        """The path of a file below the folder; empty where it lies elsewhere."""
        start = f"{self.root.rstrip('/')}/"
        return uri.removeprefix(start) if uri.startswith(start) else ""

    @cached_property
    def folders(self) -> set[str]:
        """Paths of all folders that hold any, each with a slash at its end."""
        found: set[str] = set()
        for name in self.names:
            above = name.rpartition("/")[0]
            while above and f"{above}/" not in found:
                found.add(f"{above}/")
                above = above.rpartition("/")[0]
        return found

    def find(self, name: str) -> list[str]:
        """The images that a name means; several where it has no extension and they share an id.

        A name is a path below the folder, absolute, or written from a folder above; ``./`` and the
        like do not count. Where there is no image of that name, case, Unicode's forms, spaces
        before a dot or slash, ``%20`` and the like, and the extension of an image do not count
        either, so long as one image alone is left.
        """
        forms: dict[str, None] = {}
        for form in self._forms(name):
            if form in self.names:
                return [form]
            if form in self._by_id:
                return self._by_id[form]
            forms[form] = None
        for form in forms:
            for key in (form, stem(form)) if is_image(form) else (form,):
                found = self._by_key.get(_key(key), [])
                if len(found) == 1:
                    return found
        return []

    def meant_by(self, names: Iterable[str]) -> dict[str, list[str]]:
        """What each name of a corpus means; see :meth:`find`.

        Where two names that stand for different files (``a.jpg`` and ``a.png``) come to one image,
        only the one that it is called means it: the other file is not there.
        """
        found = {name: self.find(name) for name in names}
        called: defaultdict[str, set[str]] = defaultdict(set)
        for name, images in found.items():
            if is_image(name):
                for image in images:
                    called[image].add(_base(name))
        return {
            name: [
                image
                for image in images
                if len(called[image]) < 2 or not is_image(name) or _base(name) == _base(image)
            ]
            for name, images in found.items()
        }

    def like(self, name: str) -> list[str]:
        """At most three images whose file name has the same letters and digits, nearest first."""

        def alike(image: str) -> int:
            pairs = zip(reversed(image.casefold()), reversed(name.casefold()), strict=False)
            return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

        return sorted(self._by_letters.get(_letters(name), []), key=alike, reverse=True)[:3]

    def _forms(self, name: str) -> Iterator[str]:
        """The name, and what it is below the folder when that or one above it is left out."""
        yield name
        path = _plain(name)
        yield path
        if path.startswith(self._starts):
            yield from (path.removeprefix(start) for start in self._starts)
        steps = path.split("/")
        for count in range(1, len(steps)):
            if "/".join(steps[:count]) in self._ends:
                yield "/".join(steps[count:])

    @cached_property
    def _by_key(self) -> Mapping[str, list[str]]:
        return _grouped((_key(text), name) for name in self.names for text in (name, stem(name)))

    @cached_property
    def _by_letters(self) -> Mapping[str, list[str]]:
        return _grouped((_letters(name), name) for name in self.names)


def masks_of(ids: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """Image id → its mask, where it has one.

    A mask is called ``ID.png``; where there is none of that very name, what :class:`ImageFiles`
    looks past does not count either, such as case and extension.

    Args:
        ids: Of all images.
        files: Paths below the folder of masks.
    """
    free = set(filter(is_image, files))
    found = {image_id: f"{image_id}.png" for image_id in ids}
    others = [image_id for image_id, mask in found.items() if mask not in free]
    found = {image_id: mask for image_id, mask in found.items() if mask in free}
    free.difference_update(found.values())
    keys = {_key(stem(name)) for name in free}
    others = [image_id for image_id in others if free and _key(image_id) in keys]
    if others:
        meant = ImageFiles("", free).meant_by(f"{image_id}.png" for image_id in others)
        images = {name.removesuffix(".png"): masks for name, masks in meant.items()}
        alike = {image_id: masks[0] for image_id, masks in images.items() if len(masks) == 1}
        times = Counter(alike.values())
        found |= {image_id: mask for image_id, mask in alike.items() if times[mask] == 1}
    return found


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        if key:
            groups.setdefault(key, []).append(name)
    return groups


def _plain(path: str) -> str:
    """A path without ``./``, ``//``, ``x/..`` and ``file://``."""
    return posixpath.normpath(re.sub("^file://(localhost)?(?=/)", "", path))


def _key(name: str) -> str:
    """Equal for names that differ in what people and systems do not tell apart."""
    text = unicodedata.normalize("NFC", unquote(name)).casefold()
    return re.sub(r"\s*([./])\s*", r"\1", unicodedata.normalize("NFC", text)).strip()


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", _key(stem(name.rpartition("/")[2])))


def _base(name: str) -> str:
    return unicodedata.normalize("NFC", name.rpartition("/")[2])
