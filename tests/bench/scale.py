"""How the cost of a job grows with nodes, with what is done already, and with images."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable

from ray.cluster_utils import Cluster

from dcsp.config import ClusterSettings
from dcsp.stages.parts import PartsMade, PartSummary, complete_table
from dcsp.stages.step import Role, Step
from dcsp.store.store import Store
from dcsp.tables.layout import CORPUS_DIRECTORY, part_file
from dcsp.tables.snapshot import TRAIN, CorpusPart, Snapshot
from jobs import _cluster
from tests.bench.harness import Row, compare
from tests.bench.inputs import Inputs
from tests.bench.stages import Marks
from tests.bench.stubs import SleepingStage, as_done, image_ids, part_names

SECONDS_PER_IMAGE = 0.02
NODES = 16
MIDDLE = 0.4
"""Of the images, before and after those that count: until the processes of all nodes have started,
which take turns on the cores of one machine here, nothing is as it is on machines of their own."""
CPUS_OF_A_NODE = 4
"""Ray ends idle workers beyond the CPUs of a node: on nodes of one CPU every task starts one."""


def scale_out(inputs: Inputs) -> Row:
    """Images a second of one node and of sixteen, a model that sleeps 20 ms an image."""
    counts = (1, inputs.pick(2, NODES))
    rows, parts_per_node = inputs.pick(16, 256), inputs.pick(8, 20)
    store = Store(str(inputs.directory / "scale"))
    seconds = [_seconds_each(store, count, rows, parts_per_node) * count for count in counts]
    one, many = seconds
    return Row(
        "scale_out",
        one / many,
        1000 * many,
        1000 * one,
        "ms/image/node",
        {
            "peer_is": "as many images a second on every node as on one",
            "nodes": counts[1],
            "rows_per_part": rows,
            "parts": counts[1] * parts_per_node,
            "against_the_sleep_alone": SECONDS_PER_IMAGE / many,
        },
    )


def resume_listing(inputs: Inputs) -> Row:
    """What a job does before it says that a stage is done, on a store that is."""
    count, rows = inputs.pick(50, 20_000), 500
    store = Store(str(inputs.directory / "listing"))
    stage = SleepingStage(SECONDS_PER_IMAGE)
    parts = part_names(count, rows)
    snapshot = Snapshot(inputs.classes, tuple(CorpusPart(p.name, "train", p.rows) for p in parts))
    snapshot.save(store)
    summaries = []
    for number, part in enumerate(parts):
        ids = image_ids(number, rows)
        store.write_table(part_file(CORPUS_DIRECTORY, part.name), ids)
        done = as_done(ids)
        size = store.write_table(part_file(stage.key.directory, part.name), done)
        summaries.append(PartSummary(part.name, rows, size, {"ok": rows}))
    step = Step(Role.TABLE, "sleeping", stage)
    complete_table(store, stage.key, parts, PartsMade(summaries), 1.0)
    fingerprint = snapshot.fingerprint

    def ours() -> int:
        known = Snapshot.load(store, fingerprint)
        assert step.stage.is_done(store, step.parts(known))
        return known.rows([TRAIN])

    def peer() -> int:
        finished = set()
        for part in parts:
            file = part_file(stage.key.directory, part.name)
            finished.update(store.read_table(file, ["image_id"])["image_id"].to_pylist())
        left = 0
        for part in parts:
            file = part_file(CORPUS_DIRECTORY, part.name)
            ids = store.read_table(file, ["image_id"])["image_id"].to_pylist()
            left += sum(image_id not in finished for image_id in ids)
        assert not left
        return len(finished)

    pair = compare(ours, peer, rounds=inputs.pick(2, 3))
    assert pair.our_result == pair.peer_result == count * rows
    return pair.row(
        "resume_listing",
        1,
        "start",
        peer_is="reading the ids of every row of the corpus and of the table",
        rows=count * rows,
        parts=count,
    )


def memory(inputs: Inputs) -> Row:
    """Peak memory of a mining actor and of the driver, as a corpus grows tenfold."""
    counts = (inputs.pick(32, 400), inputs.pick(64, 4000))
    few, many = (_peaks(inputs, count) for count in counts)
    grown = {name: many[name] / few[name] for name in few}
    worst = max(grown, key=lambda name: grown[name])
    return Row(
        "memory",
        1 / grown[worst],
        many[worst] / 2**20,
        few[worst] / 2**20,
        "MiB",
        {
            "images": counts,
            "worst": worst,
            "mebibytes": {
                name: [round(peaks[name] / 2**20) for peaks in (few, many)] for name in few
            },
            "detector": "a small one: what flows is what flows with a large one",
        },
    )


def _peaks(inputs: Inputs, count: int) -> dict[str, int]:
    """Peaks of a mining job in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.memory_probe", str(inputs.directory), str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.split()
    actor, driver = (int(line) for line in lines[-2:])
    return {"actor": actor, "driver": driver}


def _seconds_each(store: Store, nodes: int, rows: int, parts_per_node: int) -> float:
    """Seconds an image at steady state, on so many nodes of a GPU and some CPUs.

    There is no GPU: Ray counts one, so that each node gets one model, as nodes do.
    """
    parts = part_names(nodes * parts_per_node, rows)
    for number, part in enumerate(parts):
        store.write_table(part_file(CORPUS_DIRECTORY, part.name), image_ids(number, rows))
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    _cluster.disconnect()
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=CPUS_OF_A_NODE, num_gpus=1)
        settings = ClusterSettings(address=cluster.address, actors=nodes)
        resources = _cluster.connect(settings)
        stage = SleepingStage(SECONDS_PER_IMAGE, f"sleeping{nodes}")
        with Marks(stage.name, len(parts) * rows) as marks:
            _cluster.map_parts(store, stage, parts, resources, settings, marks)
        return marks.seconds_each(MIDDLE)
    finally:
        _cluster.disconnect()
        cluster.shutdown()


ROWS: dict[str, Callable[[Inputs], Row]] = {
    "resume_listing": resume_listing,
    "scale_out": scale_out,
    "memory": memory,
}
