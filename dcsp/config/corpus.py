"""Where images and tags come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dcsp.config.base import PositiveInt, Settings, Unit
from dcsp.errors import ConfigError
from dcsp.labels import VOC_CLASSES, TagMapper


class SceneSettings(Settings):
    """Generated scenes with known masks (``corpus.kind: scenes``)."""

    train: PositiveInt = 240
    """Images of the training split."""
    val: PositiveInt = 60
    """Images of the validation split."""
    height: Annotated[int, Field(ge=48)] = 192
    """Image height in pixels."""
    width: Annotated[int, Field(ge=48)] = 256
    """Image width in pixels."""
    max_classes: Annotated[int, Field(ge=1, le=6)] = 3
    """Most classes in one image; each image has at least one."""


class CorpusSettings(Settings):
    """Where the images and their tags come from."""

    kind: Literal["scenes", "voc", "folder", "parquet"]
    """``voc``: PASCAL VOC layout; ``folder``: images and a tag table; ``parquet``: shards with
    embedded images; ``scenes``: generated."""
    root: str | None = None
    """Folder, Parquet file or fsspec URL of the source; not needed for ``scenes``."""
    tags: str | None = None
    """Tag table of a ``folder`` corpus: CSV, JSONL or Parquet with ``image`` and ``tags`` columns;
    left out: ``tags.csv|jsonl|parquet`` in ``root``."""
    masks: str | None = None
    """Folder of ground-truth masks (PNG of class ids, named like the images) of a ``folder``
    corpus, used by evaluation alone."""
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=254)] = VOC_CLASSES
    """Class names in id order, background left out: the first has id 1."""
    aliases: dict[str, str] = Field(default_factory=dict)
    """Tag → class name, for tags that are spelled another way; matching ignores case."""
    splits: Annotated[tuple[Literal["train", "val"], ...], Field(min_length=1)] = ("train", "val")
    """Splits to ingest, where the source has them."""
    split_files: dict[Literal["train", "val"], Annotated[str, Field(pattern=r"^[\w.-]+$")]] = Field(
        default_factory=dict
    )
    """Split → name of its list in ``ImageSets/Segmentation``, else ``ImageSets/Main``, of a ``voc``
    corpus, without ``.txt``; left out: the split's own name. The paper: ``train: trainaug``."""
    limit: PositiveInt | None = None
    """Most images to take per split, in hash order of their ids; left out: all."""
    part_rows: Annotated[int, Field(ge=1, le=4096)] = 256
    """Images per part: the unit of work, of retry and of resume."""
    max_pixels: PositiveInt = 100_000_000
    """An image with more pixels is rejected before it is decoded."""
    max_rejected_share: Unit = 0.1
    """Ingest stops when more than this share of the images is rejected."""
    scenes: SceneSettings = SceneSettings()

    @model_validator(mode="after")
    def _root_is_given(self) -> CorpusSettings:
        if self.kind != "scenes" and not self.root:
            raise ValueError(f"corpus.kind={self.kind} needs corpus.root, the place of the images")
        return self

    @model_validator(mode="after")
    def _names_are_unambiguous(self) -> CorpusSettings:
        try:
            mapper = TagMapper(self.classes, self.aliases)
        except ConfigError as error:
            raise ValueError(str(error).rstrip(".")) from None
        if mapper.lookup("background") is not None:
            raise ValueError("corpus.classes holds 'background', which is id 0 already: drop it")
        return self
