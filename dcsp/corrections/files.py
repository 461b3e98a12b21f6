"""Files of corrections: read whole, digested by their content, told apart by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import ParseError

from dcsp.config import CorrectionSettings, RunConfig
from dcsp.corpus.sources.files import Folder, absolute, read_uri
from dcsp.corrections.coco import of_coco
from dcsp.corrections.cvat import of_cvat
from dcsp.corrections.drawn import Drawn
from dcsp.corrections.label_studio import of_label_studio
from dcsp.corrections.png import CLASSES_FILE, of_folder
from dcsp.errors import ConfigError, ImageError
from dcsp.tables.fingerprint import digest_lines

_WHOLE = ""
"""Name of the content of a place that is one file."""


def pinned(config: RunConfig) -> RunConfig:
    """A config whose corrections are those that lie there now: it holds digests of their content.

    Raises:
        ConfigError: There are none where the config says.
    """
    if all(place.digest for place in config.corrections):
        return config
    found = tuple(
        place
        if place.digest
        else CorrectionSettings(place=absolute(place.place), digest=_digest(_content(place.place)))
        for place in config.corrections
    )
    return config.model_copy(update={"corrections": found})


def read_drawn(place: CorrectionSettings) -> list[Drawn]:
    """What a place says, image by image.

    Raises:
        ConfigError: It is not there, is no such file, or not what it was when it was pinned.
    """
    files = _content(place.place)
    if _digest(files) != place.digest:
        raise ConfigError(
            f"corrections={place.place} is not what it was when this run was planned: submit again."
        )
    try:
        return list(_drawn(files))
    except (ValueError, KeyError, TypeError, AttributeError, ParseError, RecursionError) as error:
        raise ConfigError(
            f"corrections={place.place} cannot be read ({type(error).__name__}: {error}): give a "
            "folder of PNG files, COCO's or Label Studio's JSON, or XML of “CVAT for images 1.1”."
        ) from error


def _drawn(files: Mapping[str, bytes]) -> Iterator[Drawn]:
    if _WHOLE not in files:
        return of_folder(files)
    data = files[_WHOLE]
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return of_cvat(data)
    content = json.loads(data)
    return of_coco(content) if isinstance(content, dict) else of_label_studio(content)


def _content(place: str) -> dict[str, bytes]:
    """File → content: PNG files and the list of their names; or the one file that a place is."""
    folder = Folder(absolute(place))
    try:
        if names := folder.find():
            is_wanted = [n for n in names if n.lower().endswith(".png") or n == CLASSES_FILE]
            found = folder.read_many(is_wanted)
        else:
            found = {_WHOLE: read_uri(folder.root)}
        if bad := next((data for data in found.values() if isinstance(data, ImageError)), None):
            raise bad
    except ImageError as error:
        raise ConfigError(f"corrections={place} cannot be opened ({error}): check it.") from error
    files = {name: data for name, data in found.items() if isinstance(data, bytes)}
    if not files.keys() - {CLASSES_FILE}:
        raise ConfigError(f"corrections={place} holds no PNG files: name their folder.")
    return files


def _digest(files: Mapping[str, bytes]) -> str:
    return digest_lines(
        f"{name}\0{hashlib.sha256(data).hexdigest()}" for name, data in sorted(files.items())
    )
