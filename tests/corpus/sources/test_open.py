"""Settings name their source; workers elsewhere find it at the same place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcsp.config import CorpusSettings
from dcsp.corpus.sources.folder import FolderSource
from dcsp.corpus.sources.open import open_source
from dcsp.corpus.sources.parquet import ParquetSource
from dcsp.corpus.sources.scenes import ScenesSource
from dcsp.corpus.sources.voc import VOCSource
from dcsp.corpus.sources.webdataset import WebDatasetSource
from dcsp.labels import SCENE_CLASSES

SOURCES: dict[Any, type] = {
    "folder": FolderSource,
    "parquet": ParquetSource,
    "scenes": ScenesSource,
    "voc": VOCSource,
    "webdataset": WebDatasetSource,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_has_its_source(kind: Any) -> None:
    settings = CorpusSettings(kind=kind, root="photos", classes=SCENE_CLASSES)
    assert type(open_source(settings, 0)) is SOURCES[kind]


def test_local_places_are_absolute_and_urls_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = CorpusSettings(
        kind="folder", root="photos", classes=("cat",), tags=("s3://b/a.csv", "b.csv")
    )
    source = open_source(settings, 0)
    assert isinstance(source, FolderSource)
    assert source.root == f"{tmp_path}/photos"
    assert source.tags == ("s3://b/a.csv", f"{tmp_path}/b.csv")
