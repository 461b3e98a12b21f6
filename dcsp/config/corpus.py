"""Where images and tags come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from dcsp.config.base import Place, PositiveFloat, PositiveInt, Settings, Unit, listed
from dcsp.errors import ConfigError
from dcsp.labels import VOC_CLASSES, TagMapper


def _voc(value: Any) -> Any:
    return VOC_CLASSES if value == "voc" else value


_HOST = r"^((\*\.)?([a-zA-Z0-9-]+\.)+)?[a-zA-Z0-9-]+(:[0-9]{1,5})?$"


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


class HttpSettings(Settings):
    """Images that a tag table names by their http(s) URL; none are fetched unless hosts are named.

    A URL is fetched when its row is packed, and not again while the row stays as it is.
    """

    hosts: tuple[Annotated[str, StringConstraints(to_lower=True, pattern=_HOST)], ...] = ()
    """Hosts that images may come from, redirects included: ``img.example.org`` for itself,
    ``*.example.org`` for every host below it; with ``:port`` where that is not the scheme's own."""
    max_bytes: PositiveInt = 50_000_000
    """A larger file is rejected, and not fetched to its end."""
    timeout_seconds: PositiveFloat = 30.0
    """Seconds that one attempt may take in all, from the look-up of the host to the last byte."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Times that an image is asked for while its host is busy or does not answer, before it is left
    to the next ingest. An outage of the whole host is waited for besides, two minutes at most."""
    allow_private: bool = False
    """Also connect to private, loopback and link-local addresses: for an intranet whose other
    services nobody can name in the tag table, and for tests."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """As a source is named by: patience decides no row, and is said as it is by default.

        What was not answered in time is asked for again in any case.
        """
        for name, value in super().__repr_args__():
            yield name, _PATIENCE.get(name or "", value)


_PATIENCE = {
    name: field.default
    for name, field in HttpSettings.model_fields.items()
    if name in ("timeout_seconds", "attempts")
}


class CorpusSettings(Settings):
    """Where the images and their tags come from."""

    kind: Literal["scenes", "voc", "folder", "parquet", "webdataset"]
    """``voc``: PASCAL VOC layout; ``folder``: images and a tag table; ``parquet``: Parquet shards
    with embedded images; ``webdataset``: tar shards; ``scenes``: generated."""
    root: Place | None = None
    """Folder, Parquet or tar file or fsspec URL of the source; not needed for ``scenes``."""
    tags: Annotated[tuple[Place, ...], BeforeValidator(listed)] = ()
    """Tag table of a ``folder`` corpus, or a list of them: CSV, JSONL or Parquet with ``image`` and
    ``tags`` columns, COCO's ``instances_NAME.json``; left out: the one of
    ``tags.csv|tsv|jsonl|parquet`` in ``root``."""
    masks: Place | None = None
    """Folder of ground-truth masks (PNG of class ids, named like the images) of a ``folder``
    corpus, used by evaluation alone."""
    mask_classes: Annotated[tuple[str, ...], BeforeValidator(_voc), Field(max_length=254)] = ()
    """Class names in the order of the ids that masks hold, from 1, where that is another than that
    of ``classes``; ``voc``: the 20 of PASCAL VOC. Those that mean no class are background."""
    classes: Annotated[
        tuple[str, ...], BeforeValidator(_voc), Field(min_length=1, max_length=254)
    ] = VOC_CLASSES
    """Class names in id order, background left out: the first has id 1. ``voc``: the 20 of PASCAL
    VOC, which ``kind: voc`` has where they are left out; of images of your own they are asked
    for."""
    distractors: tuple[str, ...] = ()
    """What the images show besides, and nobody wants labels of, ``[person]`` say: the network
    learns it by its tags as it learns the classes, so that its pixels become none of them."""
    distractors_are: Literal["background", "ignored"] = "background"
    """What pixels of distractors are in published labels: 0 or 255."""
    synonyms: dict[str, Annotated[tuple[str, ...], BeforeValidator(listed)]] = Field(
        default_factory=dict
    )
    """Class name → tags that mean it too, ``{dog: [puppy, hound, canis familiaris]}``. Case,
    spaces, hyphens, underscores and a plural's ending do not matter
    (:class:`dcsp.labels.TagMapper` says how)."""
    min_tag_support: Annotated[int, Field(ge=0)] = 1
    """Ingest names the classes that fewer training images show. They keep their tags and are
    trained on: drop them from ``classes`` if that is not wanted."""
    http: HttpSettings = HttpSettings()
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
    max_removed_share: Unit = 0.5
    """Ingest stops when more than this share of the images of the last time is no longer listed,
    as when a disk is not mounted."""
    scenes: SceneSettings = SceneSettings()

    @property
    def learned(self) -> tuple[str, ...]:
        """What networks tell apart: the classes, then the distractors."""
        return (*self.classes, *self.distractors)

    def mapper(self) -> TagMapper:
        """What maps tags to class ids."""
        return TagMapper(self.learned, self.synonyms)

    def mask_ids(self) -> tuple[int, ...] | None:
        """What each id of a mask means here, background first; None: itself."""
        if not self.mask_classes:
            return None
        mapper = self.mapper()
        return (0, *(mapper.lookup(name) or 0 for name in self.mask_classes))

    @model_validator(mode="after")
    def _root_is_given(self) -> CorpusSettings:
        if self.kind != "scenes" and not self.root:
            raise ValueError(f"corpus.kind={self.kind} needs corpus.root, the place of the images")
        return self

    @model_validator(mode="after")
    def _classes_are_given(self) -> CorpusSettings:
        if self.kind not in ("voc", "scenes") and "classes" not in self.model_fields_set:
            raise ValueError(
                f"corpus.kind={self.kind} needs corpus.classes, the names of what the images are "
                "searched for: corpus.classes=[cat, dog], or voc for the 20 of PASCAL VOC"
            )
        return self

    @model_validator(mode="after")
    def _names_are_unambiguous(self) -> CorpusSettings:
        try:
            mapper = self.mapper()
        except ConfigError as error:
            raise ValueError(str(error).rstrip(".")) from None
        if mapper.lookup("background") is not None:
            raise ValueError("corpus.classes holds 'background', which is id 0 already: drop it")
        return self
