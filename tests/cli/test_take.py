"""Commands that take results out of a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dcsp.store.store import Store
from tests.cli.running import dcsp
from tests.store_fixture import LABELS, ROUGH


def test_export_writes_masks_of_the_published_run(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    assert "4 masks" in dcsp("export", store.url, out).output
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert written == ["five.png", "four.png", "one.png", "sub/two.png"]
    with Image.open(out / "sub" / "two.png") as image:
        assert np.array_equal(np.asarray(image), LABELS)
    dcsp("export", store.url, out, "demo-1111", "--labels", "network")
    with Image.open(out / "one.png") as image:
        assert np.array_equal(np.asarray(image), ROUGH)


def test_export_of_cues_writes_the_training_images_alone(store: Store, tmp_path: Path) -> None:
    record = store.read_json("runs/demo-2222/run.json")
    record["config"]["corpus"] |= {
        "classes": ["cat"],
        "distractors": ["dog"],
        "distractors_are": "ignored",
    }
    store.write_json("runs/demo-2222/run.json", record)
    dcsp("export", store.url, tmp_path / "cues", "--labels", "cues")
    written = sorted(path.name for path in (tmp_path / "cues").rglob("*.png"))
    assert written == ["one.png", "two.png"]
    with Image.open(tmp_path / "cues" / "one.png") as image:
        assert np.array_equal(np.asarray(image), np.where(LABELS == 2, 255, LABELS))
    assert (
        "is not one of" in dcsp("export", store.url, tmp_path / "c", "--labels", "x", code=2).output
    )


def test_export_never_writes_among_other_files(store: Store, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "one.png").write_bytes(b"a photograph")
    refused = "holds files that dcsp export did not write"
    assert refused in dcsp("export", store.url, photos, code=2).output.replace("\n", " ")
    record = store.read_json("runs/demo-1111/run.json")
    record["config"]["corpus"] |= {"root": str(photos)}
    store.write_json("runs/demo-1111/run.json", record)
    for out in (photos / "masks", Path(store.location("")) / "masks"):
        told = dcsp("export", store.url, out, "demo-1111", code=2).output.replace("\n", " ")
        assert "must not lie in one another" in told
    assert [path.name for path in photos.iterdir()] == ["one.png"]
