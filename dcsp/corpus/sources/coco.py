"""COCO's instances as rows of a tag table, in the layouts that others export them in.

An image is tagged with the categories of its instances. Its file is looked for below the root
where COCO, Roboflow, FiftyOne and CVAT put it: of ``instances_NAME.json`` in the folder NAME, as
``file_name`` says, beside the JSON file, in ``images`` or ``data``, and in NAME there. The split is
the first word of the file's name that is one (``instances_val2017.json``), else that of the folder
it is in (``valid/_annotations.coco.json``), else training.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dcsp.corpus.sources.base import is_split, split_of
from dcsp.corpus.sources.names import ImageFiles
from dcsp.corpus.sources.urls import is_url
from dcsp.errors import CorpusError

Record = Mapping[str, Any]


def instances(content: Any, uri: str, files: ImageFiles) -> Iterator[Record]:
    """Images with their tags; what refers to an unknown image or category keeps its row.

    Args:
        content: Of the JSON file.
        uri: Path or URL of it.
        files: Images of the corpus.

    Yields:
        ``image``, ``tags`` and ``split``, as the rows of other tables.

    Raises:
        CorpusError: These are none of COCO's instances, or an id means two things.
    """
    tags: defaultdict[Any, set[str]] = defaultdict(set)
    try:
        names = _by_id(content["categories"], "name", uri)
        images = _by_id(content["images"], "file_name", uri)
        for instance in content["annotations"]:
            category = _id(instance["category_id"])
            tags[_id(instance["image_id"])].add(names.get(category, f"category {category}"))
    except (KeyError, TypeError) as error:
        raise CorpusError(
            f"corpus.tags={uri} is none of COCO's instances ({error!r}): it needs categories with "
            "id and name, images with id and file_name, annotations with image_id and category_id."
        ) from error
    split = _split(uri, files)
    written = {key: name.strip().replace("\\", "/") for key, name in images.items()}
    placed = _placed(set(written.values()), uri, files)
    for key in dict.fromkeys((*images, *tags)):
        image = placed[written[key]] if key in written else f"image {key}"
        yield {"image": image, "tags": sorted(tags[key]), "split": split}


def _by_id(entries: Iterable[Record], field: str, uri: str) -> dict[Any, str]:
    """Id → what it means."""
    found: dict[Any, str] = {}
    for entry in entries:
        key, value = _id(entry["id"]), str(entry[field])
        if found.setdefault(key, value) != value:
            raise CorpusError(
                f"corpus.tags={uri}: the id {key!r} means {found[key]!r} and {value!r}: give each "
                "an id of its own."
            )
    return found


def _id(value: Any) -> Any:
    """An id; some exports write numbers as text in one of the places."""
    is_number = isinstance(value, str) and re.fullmatch("0|[1-9][0-9]{0,17}", value)
    return int(value) if is_number else value


def _placed(names: Iterable[str], uri: str, files: ImageFiles) -> dict[str, str]:
    """File name as it is written → path below the root."""
    folders = list(_folders(uri, files))
    paths = [name for name in names if not is_url(name)]
    folder = next((f for f in folders if any(files.find(f + path) for path in paths)), folders[0])
    placed = {name: name for name in names}
    for path in paths:
        is_there = files.find(folder + path) or not files.find(path)
        placed[path] = folder + path if is_there else path
    return placed


def _folders(uri: str, files: ImageFiles) -> Iterator[str]:
    """Folders below the root that the images may be in, likeliest first."""
    name = _name(uri)
    here = files.below(uri).rpartition("/")[0]
    beside = f"{here}/" if here else ""
    inner = [f"{name}/", f"{name.rpartition('_')[2]}/"]
    outer = [f"{top}{folder}/" for folder in ("images", "data") for top in (beside, "")]
    deep = [f"{above}{below}" for below in inner for above in outer]
    yield from (folder for folder in inner[:1] if folder in files.folders)
    yield from ("", beside)
    yield from (folder for folder in (inner[1], *deep, *outer) if folder in files.folders)


def _split(uri: str, files: ImageFiles) -> str | None:
    """The split that a word of the file's name is (``testset``, ``valA``), else of its folder's."""
    folder = files.below(uri).rpartition("/")[0].rpartition("/")[2]
    for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", f"{_name(uri)}/{folder}"):
        stated = re.sub("(set|data|split)$", "", word.lower())
        if stated and is_split(split_of(stated)):
            return split_of(stated)
    return None


def _name(uri: str) -> str:
    return re.sub(r"^instances_|\.json$", "", uri.rpartition("/")[2], flags=re.IGNORECASE)
