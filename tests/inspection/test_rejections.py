"""What ingest refused can be listed, and looked at once more when its cause is gone."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from dcsp.cli import app
from dcsp.config import CorpusSettings
from dcsp.corpus.listing import list_corpus
from dcsp.corpus.unknown_tags import save_unknown
from dcsp.inspection.rejections import by_reason, forget, read_rejected
from dcsp.store.store import Store
from dcsp.tables.layout import LATEST, rejected_file
from dcsp.tables.schemas import REJECTED
from dcsp.tables.snapshot import Snapshot
from tests.corpus.shelf import ingest_here
from tests.store_fixture import build_store

SETTINGS = {"kind": "folder", "classes": ("cat",), "part_rows": 2, "max_rejected_share": 1.0}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "abcde":
        Image.new("RGB", (8, 6)).save(folder / f"{name}.jpg")
    (folder / "tags.csv").write_text("image,tags\n" + "".join(f"{n},cat\n" for n in "abcde"))
    (folder / "empty.jpg").write_bytes(b"")
    return folder


def ingest(store: Store, photos: Path) -> Snapshot:
    """Ingest as the job does, without a cluster; nothing where the listing is known."""
    settings = CorpusSettings(**SETTINGS, root=str(photos))
    listing = list_corpus(store, settings, seed=0)
    if known := listing.known():
        return known[0]
    snapshot = ingest_here(listing).snapshot
    listing.remember(snapshot, 0.0)
    return snapshot


def lock(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    real = os.open

    def opened(path: Any, *args: Any, **named: Any) -> int:
        if str(path).endswith(ending):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **named)

    monkeypatch.setattr(os, "open", opened)


def test_lost_images_come_back_when_their_cause_is_gone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    with monkeypatch.context() as patched:
        lock(patched, "b.jpg")
        assert ingest(store, photos).rows(["train"]) == 4
    reasons = {r.reason: (r.stage, r.rows) for r in by_reason(read_rejected(store))}
    assert reasons == {"unreadable": ("read", 1), "empty": ("decode", 1)}
    assert ingest(store, photos).rows(["train"]) == 4, "the listing is the same"
    kept = {part.name for part in ingest(store, photos).parts}
    assert forget(store) == 1
    whole = ingest(store, photos)
    assert whole.rows(["train"]) == 5
    assert kept & {part.name for part in whole.parts}, "batches without losses are not read again"
    assert [r.reason for r in by_reason(read_rejected(store))] == ["empty"]


def test_a_store_without_losses_stays_as_it_is(photos: Path, tmp_path: Path) -> None:
    (photos / "empty.jpg").unlink()
    store = Store(tmp_path / "store")
    ingest(store, photos)
    assert forget(store) == 0
    assert store.list("corpus/listings")
    assert by_reason(read_rejected(store)) == []


def test_the_command_lists_exports_and_replays(photos: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    ingest(store, photos)
    out = tmp_path / "rejected.csv"
    arguments = ["rejected", store.url, "--out", str(out), "--replay"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "empty" in result.output and "empty.jpg: the file has no bytes" in result.output
    assert "looks at 0 images once more" in result.output
    with out.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["image_id"], row["reason"]) == ("empty", "empty")


def test_the_command_lists_tags_without_a_class(photos: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    ingest(store, photos)
    result = CliRunner().invoke(app, ["rejected", store.url])
    assert "tags without a class: none" in result.output
    save_unknown(store, LATEST, Counter({"axe": 3, "bow\x1b[2J": 12}))
    result = CliRunner().invoke(app, ["rejected", store.url])
    assert "  bow\\x1b[2J      12\n  axe              3" in result.output


def test_the_command_tells_programs_the_same(photos: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    ingest(store, photos)
    save_unknown(store, LATEST, Counter({"axe": 3, "bow\x1b[2J": 12}))
    result = CliRunner().invoke(app, ["rejected", store.url, "--replay", "--json"])
    told = json.loads(result.stdout)
    (reason,) = told["rejected"]
    assert (reason["stage"], reason["reason"], reason["rows"]) == ("decode", "empty", 1)
    assert told["tags_without_a_class"] == {"bow\x1b[2J": 12, "axe": 3}
    assert "looks at 0 images once more" in result.stderr


def test_rows_of_a_run_are_those_of_its_snapshot(tmp_path: Path) -> None:
    store = build_store(tmp_path / "store")
    snapshot = store.read_json("runs/demo-2222/run.json")["snapshot"]
    rows = [{"image_id": "x", "uri": "x.jpg", "stage": "decode", "reason": "empty", "message": "-"}]
    store.write_table(rejected_file(snapshot), pa.Table.from_pylist(rows, REJECTED))
    assert [row["image_id"] for row in read_rejected(store)] == ["x"], "no other ingest is known"
    store.write_table(rejected_file(LATEST), pa.Table.from_pylist([], REJECTED))
    assert read_rejected(store) == []
    assert [row["image_id"] for row in read_rejected(store, "demo-2222")] == ["x"]
