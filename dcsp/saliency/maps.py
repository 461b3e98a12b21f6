"""Saliency that somebody else computed: maps from a folder or bucket, as a table like our own."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from dcsp.corpus.sources.files import read_uri, require_folder
from dcsp.errors import ImageError
from dcsp.images.resize import shrink_map
from dcsp.saliency.table import MAP_SIDE
from dcsp.stages.parts import TableInput
from dcsp.stages.rows import RowResults
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_levels, quantize
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import CORPUS_DIRECTORY
from dcsp.tables.schemas import HEAD_COLUMNS, SALIENCY

VERSION = 1
MISSING, WRONG_SIZE, UNREADABLE = "missing_map", "wrong_size", "unreadable_map"
"""What may be wrong with a map, for the error of its row."""
_Read = Callable[[bytes], NDArray[np.float32]]


@dataclass(frozen=True)
class MapStage(TableStage):
    """S_1 … S_K of every image from files, one folder for each k; S_k covers S_{k−1}.

    Attributes:
        places: Folder or bucket of each pass.
    """

    places: tuple[str, ...]

    schema = SALIENCY
    libraries = ("numpy", "pillow")
    inputs = (TableInput("", CORPUS_DIRECTORY, HEAD_COLUMNS),)

    @property
    def key(self) -> StageKey:
        """Where the maps lie decides the table: what lies there must stay as it is."""
        return StageKey("saliency", VERSION, {"maps": list(self.places)})

    def load(self, store: Store, device: Device) -> PartModel:
        """See that the folders are there; maps are read as they are asked for.

        Raises:
            CorpusError: One is not.
        """
        for place in self.places:
            require_folder(place, "saliency.maps")

        def read(row: dict[str, Any]) -> list[bytes] | ImageError:
            try:
                return _levels(self.places, row)
            except ImageError as error:
                return error

        def model(rows: pa.Table) -> pa.Table:
            results: RowResults[list[bytes]] = RowResults(rows.num_rows)
            with read_ahead(read, rows.to_pylist()) as maps:
                for index, found in enumerate(maps):
                    if isinstance(found, ImageError):
                        results.errors[index] = f"{found.reason}: {found}"
                    else:
                        results.values[index] = found
            return results.onto(rows, name="maps", type_=pa.list_(pa.binary()))

        return model


def _levels(places: Sequence[str], row: dict[str, Any]) -> list[bytes]:
    """The encoded maps of one image.

    Raises:
        ImageError: One is not there, cannot be read, or is of another size than the image.
    """
    levels: list[bytes] = []
    highest: NDArray[np.float32] | None = None
    for place in places:
        map_ = shrink_map(_read(place, row), MAP_SIDE)
        highest = map_ if highest is None else np.maximum(highest, map_)
        levels.append(encode_levels(quantize(highest)))
    return levels


def _read(place: str, row: dict[str, Any]) -> NDArray[np.float32]:
    """HW float32 in [0, 1]."""
    readers: dict[str, _Read] = {".png": _from_png, ".npy": _from_numpy, ".npz": _from_numpy}
    stem = row["image_id"]
    for suffix, read in readers.items():
        name = f"{place}/{stem}{suffix}"
        try:
            data = read_uri(name)
        except ImageError as error:
            if error.reason == "missing":
                continue
            raise
        try:
            map_ = read(data)
        except (ValueError, OSError, BadZipFile) as error:
            raise ImageError(UNREADABLE, f"{name} is no map ({error})") from error
        size = (row["height"], row["width"])
        if map_.shape != size:
            raise ImageError(WRONG_SIZE, f"{name} is {map_.shape} pixels, its image {size}")
        return map_
    raise ImageError(MISSING, f"there is no {stem}.png, .npy or .npz in {place}")


def _from_png(data: bytes) -> NDArray[np.float32]:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode == "I;16":
            return np.asarray(image, np.float32) / np.float32(65535)
        if image.mode not in ("L", "1"):
            raise ValueError(f"an image of mode {image.mode}, not grey")
        return np.asarray(image.convert("L"), np.float32) / np.float32(255)


def _from_numpy(data: bytes) -> NDArray[np.float32]:
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    values = loaded if isinstance(loaded, np.ndarray) else _only(loaded)
    if values.ndim != 2:
        raise ValueError(f"an array of shape {values.shape}")
    if values.dtype == np.uint8:
        return np.asarray(values, np.float32) / np.float32(255)
    map_ = np.asarray(values, np.float32)
    if not (np.isfinite(map_).all() and map_.min() >= 0 and map_.max() <= 1):
        raise ValueError("values that leave 0–1")
    return map_


def _only(archive: Mapping[str, np.ndarray]) -> NDArray[Any]:
    if len(archive) != 1:
        raise ValueError(f"{len(archive)} arrays, where one is expected")
    return next(iter(archive.values()))
