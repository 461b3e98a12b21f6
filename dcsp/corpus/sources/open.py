"""The one place that knows every kind of source."""

from __future__ import annotations

from dcsp.config import CorpusSettings
from dcsp.corpus.sources.base import Source
from dcsp.corpus.sources.files import absolute
from dcsp.corpus.sources.folder import FolderSource
from dcsp.corpus.sources.parquet import ParquetSource
from dcsp.corpus.sources.scenes import ScenesSource
from dcsp.corpus.sources.voc import VOCSource
from dcsp.corpus.sources.webdataset import WebDatasetSource


def open_source(settings: CorpusSettings, seed: int) -> Source:
    """The source that the settings name.

    Args:
        settings: ``corpus`` of the run.
        seed: Seed of the run, which decides what generated scenes show.

    Raises:
        ConfigError: ``corpus.classes`` lacks a class of the generated scenes.
        CorpusError: The root or the tag table is not there.
    """
    root = absolute(settings.root or "")
    if settings.kind == "voc":
        return VOCSource(root, settings.splits, dict(settings.split_files.items()))
    if settings.kind == "folder":
        tags = tuple(map(absolute, settings.tags))
        masks = absolute(settings.masks) if settings.masks else None
        return FolderSource(root, settings.splits, tags, masks, http=settings.http)
    if settings.kind == "parquet":
        return ParquetSource(root, settings.splits, settings.part_rows)
    if settings.kind == "webdataset":
        return WebDatasetSource(root, settings.splits, settings.part_rows)
    return ScenesSource(settings.scenes, settings.learned, seed, settings.splits)
