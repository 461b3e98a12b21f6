"""Every kind of file that a run leaves, damaged in every way: ``dcsp verify`` tells what to do."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dcsp.corpus.unknown_tags import save_unknown
from dcsp.errors import WeightsError
from dcsp.inspection.verify import verify_store
from dcsp.networks.checkpoint import load_checkpoint, save_network
from dcsp.networks.deeplab import SegmentationNetwork
from dcsp.stages.parts import PartsMade, begin_stage, complete_table
from dcsp.store.lease import LEASE, Holder
from dcsp.store.store import Store
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.layout import RESUMABLE, is_manifest, part_file, stage_directories
from dcsp.tables.schemas import SELFTAGS
from dcsp.training.loop import state_to_bytes
from jobs._chain import Chain
from tests.store_fixture import rows
from tests.training.tiny import tiny_network
from tests.whole_chain.conftest import Done

TRAINING = "0123456789abcdef0123"
"""A training that was killed."""

PLACES = {
    "snapshot": "corpus/*.json",
    "catalogue": "corpus/*.catalogue.parquet",
    "rejected rows": "corpus/[0-9a-f]*.rejected.parquet",
    "rejected rows of the latest ingest": "corpus/latest.rejected.parquet",
    "corpus part": "corpus/parts/*.parquet",
    "truth": "truth/*.parquet",
    "batch": "corpus/batches/*.json",
    "listing": "corpus/listings/*.json",
    "lineage": "corpus/lineages/*.json",
    "rows of a shard": "corpus/shards/*.parquet",
    "unknown tags": "corpus/unknown_tags/[0-9a-f]*.json",
    "part of a table": "cues/*/*.parquet",
    "predictions": "predictions/*/*.parquet",
    "key of a table": "saliency/*/stage.json",
    "counts of a table": "saliency/*/statuses.json",
    "manifest": "cues/*/complete-*.json",
    "thresholds": "selftags/*/thresholds.json",
    "weights": "checkpoints/[!r]*/model.safetensors",
    "card": "checkpoints/[!r]*/model.json",
    "history": "checkpoints/[!r]*/history.json",
    "mark of a training": "checkpoints/[!r]*/complete.json",
    "key of a training": "checkpoints/[!r]*/stage.json",
    "event log": "checkpoints/[!r]*/tensorboard/*",
    "killed training here": "checkpoints/resumable/*/here.pt",
    "killed training on Ray": "checkpoints/resumable/*/run/checkpoint_1/state.pt",
    "log of a killed training on Ray": "checkpoints/resumable/*/run/checkpoint_1/log.json",
    "run": "runs/*/run.json",
    "metrics": "runs/*/metrics.json",
    "report": "runs/*/report/index.html",
    "comparison as JSON": "comparisons/*/table.json",
    "comparison as CSV": "comparisons/*/table.csv",
    "comparison as a page": "comparisons/*/index.html",
    "published run": "CURRENT",
    "event of what was published": "history/*.json",
    "lease": "LEASE",
}
"""Kind of file → where the files of that kind lie."""

DAMAGES = ("deleted", "truncated", "zeroed", "flipped", "replaced")

REMADE = {  # lost without loss: the next job makes it again from what is there
    "batch",
    "listing",
    "unknown tags",
    "rows of a shard",
    "rejected rows of the latest ingest",
    "counts of a table",
    "killed training here",
    "killed training on Ray",
    "comparison as JSON",
    "comparison as a page",
    "lease",
}
READ_BY_PEOPLE = {"event log", "comparison as CSV", "log of a killed training on Ray"}
"""No program goes by them, or (Ray's) what they belong to is told of itself."""
HARMLESS = {
    *((kind, "deleted") for kind in REMADE),
    *((kind, damage) for kind in READ_BY_PEOPLE for damage in DAMAGES),
    ("report", "flipped"),  # one letter of a page that people read
    ("comparison as a page", "flipped"),
    ("comparison as a page", "replaced"),
    ("event of what was published", "deleted"),  # the others still tell the truth
    ("published run", "replaced"),  # by another run that has ended: it is published then
    ("lease", "replaced"),
    ("lease", "flipped"),  # another host, say: it expires as any other
}
CASES = [(kind, damage) for kind in PLACES for damage in DAMAGES]


@pytest.fixture(scope="module")
def whole(done: Done, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The finished store with what other sources, settings and jobs leave, and small networks."""
    place = tmp_path_factory.mktemp("damage") / "store"
    shutil.copytree(done.store.location(""), place, copy_function=os.link)
    store = Store(place)
    trained = [d for d in stage_directories(store) if store.exists(f"{d}/complete.json")]
    for directory in trained:
        mark = f"{directory}/complete.json"
        size = save_network(store, directory, tiny_network())
        store.write_json(mark, store.read_json(mark) | {"bytes": size})
    save_unknown(store, done.plan.snapshot.fingerprint, Counter(zebra=3))
    key, parts = StageKey("selftags", 1), done.plan.snapshot.of(["train"])
    begin_stage(store, key)
    for part in parts:
        ids = store.read_table(part_file("corpus/parts", part.name), ["image_id"])
        values = [{"image_id": name.as_py(), "status": "skipped"} for name in ids["image_id"]]
        store.write_table(part_file(key.directory, part.name), rows(SELFTAGS, values))
    store.write_json(f"{key.directory}/thresholds.json", {"split": "val", "classes": {}})
    complete_table(store, key, parts, PartsMade(), seconds=0.0)
    store.write_table("corpus/shards/ab12.parquet", rows(SELFTAGS, []))
    state = state_to_bytes({"network": {"weight": torch.ones(99)}, "step": 3}, TRAINING)
    for name in ("here.pt", "run/checkpoint_1/state.pt"):
        store.write_bytes(f"{RESUMABLE}/{TRAINING}/{name}", state)
    store.write_bytes(f"{RESUMABLE}/{TRAINING}/run/checkpoint_1/log.json", b'{"history": []}')
    store.write_json("comparisons/grid-1/table.json", {"rows": []})
    store.write_bytes("comparisons/grid-1/table.csv", b"a,b\n")
    store.write_bytes("comparisons/grid-1/index.html", b"<!doctype html><p>1</p></html>")
    store.write_bytes(LEASE, Holder.here("relabel", "tiny", 60).to_bytes())
    return store


def only(store: Store, kind: str) -> str:
    """The first file of a kind."""
    root = Path(store.location(""))
    return str(min(root.glob(PLACES[kind])).relative_to(root))


def another(name: str, store: Store, tmp_path: Path) -> bytes:
    """A good file of the same kind, of another place."""
    other, ending = Store(tmp_path), name.rpartition(".")[2]
    if ending == "parquet":
        other.write_table(f"other/{name}", store.read_table(name))
    elif name.endswith("statuses.json"):
        return store.read_bytes(name).replace(b", 0]", b", 1]")
    elif ending == "json":
        tree = store.read_json(name)
        changed = tree[:-1] if isinstance(tree, list) else {**tree, "more": 1}
        other.write_json(f"other/{name}", changed)
    elif ending == "pt":
        return state_to_bytes({"network": {}, "step": 3}, "of another training")
    elif ending == "safetensors":
        weights = safetensors.torch.load(store.read_bytes(name))
        return safetensors.torch.save({key: value * 0 for key, value in weights.items()})
    elif ending == "html":
        return b"<!doctype html><p>another page</p></html>"
    else:
        return store.read_bytes(name)
    return other.read_bytes(f"other/{name}")


def flipped(data: bytes) -> bytes:
    """One bit of the middle byte is another; of text, of the nearest letter or digit."""
    middle = len(data) // 2
    if data[:1] in (b"{", b"[", b"<"):
        middle = next(i for i in range(middle, len(data)) if chr(data[i]).isalnum())
    bent = bytearray(data)
    bent[middle] ^= 1
    return bytes(bent)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: b"\0" * len(data),
    "flipped": flipped,
}


@pytest.fixture
def damaged(
    whole: Store, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Store, str]]:
    """The store with one file damaged, and the file's name; afterwards it is as it was."""
    kind, damage = request.param
    name = only(whole, kind)
    file, data = Path(whole.location(name)), whole.read_bytes(name)
    if damage == "replaced":
        bad = another(name, whole, tmp_path)
    file.unlink()  # a hard link: the other store keeps its file
    if damage == "replaced":
        file.write_bytes(bad)
    elif damage != "deleted":
        file.write_bytes(DAMAGE[damage](data))
    yield whole, name
    file.write_bytes(data)


def test_the_store_before_is_whole(whole: Store) -> None:
    found = verify_store(whole)
    assert found.problems == [] and found.notes == []


def test_every_file_of_the_store_is_of_a_kind_that_is_damaged_here(whole: Store) -> None:
    root = Path(whole.location(""))
    known = {file for place in PLACES.values() for file in root.glob(place)}
    alike = {file.with_name("x") for file in known}  # tables are many, with the same files
    unknown = [
        name
        for name in whole.files()
        if root / name not in known
        and not name.endswith((".parquet", "stage.json", "statuses.json"))
        and not is_manifest(name.rpartition("/")[2])
        and (root / name).with_name("x") not in alike
    ]
    assert unknown == []


@pytest.mark.parametrize("damaged", CASES, indirect=True, ids="-".join)
def test_damage_that_matters_is_named_with_its_cure(
    damaged: tuple[Store, str], request: pytest.FixtureRequest
) -> None:
    store, name = damaged
    kind, damage = request.node.callspec.params["damaged"]
    found = verify_store(store)
    if (kind, damage) in HARMLESS:
        assert found.problems == []
        return
    told = [line for line in (*found.problems, *found.notes) if _names(line, name)]
    assert told, found
    cures = ("remove", "delete", "submit", "dcsp ", "reports lack")
    assert any(cure in line for line in told for cure in cures), told


def _names(line: str, name: str) -> bool:
    """Whether a line names a file, or the directory that lacks it."""
    directory = name.rpartition("/")[0]
    return name in line or (directory.count("/") > 0 and directory in line)


def copied(done: Done, tmp_path: Path) -> Store:
    """The finished store once more, by hard links: files are replaced, never written into."""
    shutil.copytree(done.store.location(""), tmp_path / "store", copy_function=os.link)
    return Store(tmp_path / "store")


def test_zeroed_weights_are_never_loaded(done: Done, tmp_path: Path) -> None:
    store = copied(done, tmp_path)
    name = only(store, "weights")
    load_checkpoint(store, name.rpartition("/")[0], SegmentationNetwork)
    store.write_bytes(name, another(name, store, tmp_path))
    with pytest.raises(WeightsError, match=r"does not hold the weights that were trained"):
        load_checkpoint(store, name.rpartition("/")[0], SegmentationNetwork)


def test_a_network_of_an_earlier_version_is_loaded_and_told_as_unchecked(
    done: Done, tmp_path: Path
) -> None:
    store = copied(done, tmp_path)
    name = only(store, "card")
    card = {key: value for key, value in store.read_json(name).items() if key != "sha256"}
    store.write_bytes(name, json.dumps(card).encode())
    load_checkpoint(store, name.rpartition("/")[0], SegmentationNetwork)
    found = verify_store(store)
    assert found.problems == []
    assert "1 JSON file without a checksum" in found.notes[0]
    assert "1 network without a digest" in found.notes[1]


REMADE_BY_THE_JOB = ("stage.json", "statuses.json", "complete-", "report/index.html", "run.json")


def test_what_was_lost_beside_finished_outputs_is_written_again(done: Done, tmp_path: Path) -> None:
    store = copied(done, tmp_path)
    lost = [n for n in store.files() if any(word in n for word in REMADE_BY_THE_JOB)]
    for name in lost:
        store.remove(name)
    assert verify_store(store).problems
    config = done.config.model_copy(update={"store": store.url})
    chain, plan = Chain(config), done.plan
    for step in plan:
        chain.run(plan, step)
    chain.finish(plan)
    assert chain.computed["fcan"] is False
    assert verify_store(store).problems == [] and set(lost) <= set(store.files())
