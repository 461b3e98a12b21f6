"""Images that decoders die of, through a whole ingest as a user runs it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dcsp.inspection.rejections import read_rejected
from dcsp.store.store import Store
from tests.images.broken_decoders import WAYS, image, install
from tests.jobs.running import call

CONFIG = """
store: {store}
corpus:
  kind: folder
  root: {root}
  classes: [cat]
  max_rejected_share: 1.0
  part_rows: 8
cluster: {{executor: {executor}}}
"""


@pytest.mark.parametrize(
    "executor",
    ["here", pytest.param("ray", marks=[pytest.mark.cluster, pytest.mark.slow])],
)
def test_images_that_decoders_die_of_are_rows_and_all_others_are_in_the_corpus(
    tmp_path: Path, executor: str
) -> None:
    root, store = tmp_path / "photos", tmp_path / "store"
    root.mkdir()
    for number in range(16):
        (root / f"good{number}.ppm").write_bytes(image())
    for way in WAYS:
        (root / f"{way}.ppm").write_bytes(image(way))
    rows = [f"{file.name},cat" for file in sorted(root.iterdir())]
    (root / "tags.csv").write_text("\n".join(["image,tags", *rows]))
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(store=store, root=root, executor=executor))
    environment = {"PYTHONPATH": install(tmp_path / "plugin"), "RAY_USAGE_STATS_ENABLED": "0"}
    done = call("ingest.py", "--config", config, environment=environment)
    assert done.returncode == 0, done.stderr
    told = {row["image_id"]: (row["stage"], row["reason"]) for row in read_rejected(Store(store))}
    assert told == {
        "crashes": ("decode", "decoder_crash"),
        "hangs": ("decode", "too_slow"),
        "waits": ("decode", "too_slow"),
        "eats": ("decode", "too_much_memory"),
    }
    tables = [pq.read_table(file) for file in (store / "corpus/parts").glob("*.parquet")]
    kept = Counter(name for table in tables for name in table["image_id"].to_pylist())
    assert kept == Counter(f"good{number}" for number in range(16))
    again = call("ingest.py", "--config", config, environment=environment)
    assert again.returncode == 0 and "nothing changed" in again.stderr
