"""A small store made with the functions that jobs use, and two runs in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dcsp.corpus.catalogue import CATALOGUE
from dcsp.stages.parts import PartsMade, begin_stage, complete_table
from dcsp.store.store import Store
from dcsp.tables.codecs import encode_labels
from dcsp.tables.fingerprint import StageKey, digest
from dcsp.tables.layout import CORPUS_DIRECTORY, catalogue_file, part_file, rejected_file
from dcsp.tables.schemas import CORPUS, CUES, PREDICTIONS, REJECTED, RULES_SINCE, TRUTH
from dcsp.tables.snapshot import CorpusPart, Part, Snapshot

CLASSES = ("cat", "dog")
LABELS = np.array([[0, 1, 2], [2, 255, 0]], dtype=np.uint8)
ROUGH = np.zeros_like(LABELS)
PARTS = {"train": "aa11", "val": "bb22"}
IDS = {"train": ["one", "sub/two", "three"], "val": ["four", "five"]}
CUES_KEY = StageKey("cues", 1, settings={"gamma_low": 0.4}, inputs={"fcan": "ff" * 10}, seed=3)


@dataclass(frozen=True)
class Table:
    """As much of a stage as its manifest needs."""

    key: StageKey
    schema: pa.Schema


def sha256(data: bytes) -> str:
    """Digest in hex."""
    return hashlib.sha256(data).hexdigest()


def rows(schema: pa.Schema, values: list[dict[str, Any]]) -> pa.Table:
    """A table of a schema, columns that are not given being null."""
    return pa.Table.from_pylist(
        [{name: value.get(name) for name in schema.names} for value in values], schema=schema
    )


def build_store(root: Path, version: int = RULES_SINCE) -> Store:
    """A store with a corpus of two parts, cues, predictions, a checkpoint and two runs.

    Args:
        root: Where.
        version: Of the stage that made the predictions.
    """
    store = Store(root)
    snapshot = _corpus(store)
    _derived(store, snapshot, CUES_KEY, CUES, ("train",))
    model = _checkpoint(store)
    for gamma, run_id in ((0.4, "demo-1111"), (0.3, "demo-2222")):
        key = StageKey(
            "predictions", version, settings={"gamma": gamma}, inputs={"model": "ee" * 10}
        )
        _derived(store, snapshot, key, PREDICTIONS, ("train", "val"))
        steps = {"cues_phase0": CUES_KEY, "joint_phase0": model, "predictions": key}
        _run(store, run_id, snapshot, gamma, steps)
    store.write_bytes("CURRENT", b"demo-2222\n")
    return store


def _corpus(store: Store) -> Snapshot:
    parts = []
    for split, name in PARTS.items():
        images = [
            {
                "image_id": image_id,
                "height": 2,
                "width": 3,
                "tags": [1],
                "split": split,
                "uri": f"{image_id}.jpg",
                "bytes": image_id.encode(),
                "sha256": sha256(image_id.encode()),
                "status": "ok",
            }
            for image_id in IDS[split]
        ]
        store.write_table(part_file(CORPUS_DIRECTORY, name), rows(CORPUS, images))
        truth = f"truth/{name}.parquet"
        masks = [{**image, "label": encode_labels(LABELS)} for image in images]
        store.write_table(truth, rows(TRUTH, masks))
        parts.append(CorpusPart(name, split, len(images), truth))
    snapshot = Snapshot(CLASSES, tuple(parts))
    snapshot.save(store)
    store.write_table(rejected_file(snapshot.fingerprint), REJECTED.empty_table())
    places = [
        {"image_id": name, "listed": 1, "content": 1, "tags": [1], "part": part, "row": row}
        for part, split in enumerate(PARTS)
        for row, name in enumerate(IDS[split])
    ]
    catalogue = pa.Table.from_pylist(places, CATALOGUE)
    store.write_table(catalogue_file(snapshot.fingerprint), catalogue)
    return snapshot


def _derived(
    store: Store, snapshot: Snapshot, key: StageKey, schema: pa.Schema, splits: tuple[str, ...]
) -> None:
    begin_stage(store, key)
    parts = snapshot.of(splits)
    for part in snapshot.parts:
        if part.split in splits:
            values = [_row(image_id) for image_id in IDS[part.split]]
            store.write_table(part_file(key.directory, part.name), rows(schema, values))
    _complete(store, Table(key, schema), parts)


def _row(image_id: str) -> dict[str, Any]:
    if image_id == "three":
        return {"image_id": image_id, "status": "error", "error": "torn"}
    return {
        "image_id": image_id,
        "status": "ok",
        "label": encode_labels(LABELS),
        "label_without_crf": encode_labels(ROUGH),  # the network's own: it has no CRF
    }


def _complete(store: Store, table: Table, parts: list[Part]) -> None:
    complete_table(store, table.key, parts, PartsMade(), seconds=1.5)


def _checkpoint(store: Store) -> StageKey:
    key = StageKey("joint_phase0", 1, settings={"steps": 40}, home="checkpoints")
    begin_stage(store, key)
    store.write_bytes(f"{key.directory}/model.safetensors", b"weights")
    store.write_json(f"{key.directory}/model.json", {"sha256": sha256(b"weights")})
    store.write_json(f"{key.directory}/history.json", [])
    mark = {"stage": "joint_phase0", "steps": 40, "bytes": 7, "history": digest([])}
    store.write_json(f"{key.directory}/complete.json", mark)
    return key


def _run(
    store: Store, run_id: str, snapshot: Snapshot, gamma: float, steps: Mapping[str, StageKey]
) -> None:
    record = {
        "run_id": run_id,
        "created": f"2026-08-01T10:0{run_id[-1]}:00Z",
        "config": {
            "seed": 3,
            "corpus": {"root": None, "classes": list(CLASSES)},
            "cues": {"gamma": gamma},
            "predict": {"splits": ["train", "val"]},
        },
        "snapshot": snapshot.fingerprint,
        "steps": [
            {"title": title, "directory": key.directory, "fingerprint": key.fingerprint}
            for title, key in steps.items()
        ],
    }
    store.write_json(f"runs/{run_id}/run.json", record)
    figures = {"miou": 100 * gamma, "miou_crf": 100 * gamma + 2, "figures": {"x": 1}}
    store.write_json(
        f"runs/{run_id}/metrics.json",
        {"run_id": run_id, "cues": {"phase0": {"miou": 51.5}}, "val": figures},
    )
    store.write_bytes(f"runs/{run_id}/report/index.html", f"<p>{run_id}</p></html>".encode())
