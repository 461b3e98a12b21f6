"""Where everything lies in a store: every name of a file or directory that dcsp writes.

A table is a directory named by its fingerprint, with one file a part; see :func:`part_file`.
Nothing here imports torch: workers that read start fast.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dcsp.store.lease import LEASE
from dcsp.store.store import Store
from dcsp.tables.fingerprint import FINGERPRINT_LENGTH, StageKey

CORPUS = "corpus"
"""Directory of snapshots and of what belongs to them."""
CORPUS_DIRECTORY = f"{CORPUS}/parts"
"""Directory of the parts that every other table is aligned with."""
BATCHES = f"{CORPUS}/batches"
"""Directory for the records of packed batches."""
LISTINGS = f"{CORPUS}/listings"
"""Directory for what listings became."""
LINEAGES = f"{CORPUS}/lineages"
"""Directory for the last snapshot of each source."""
SHARDS = f"{CORPUS}/shards"
"""Directory for the rows of shards that were listed."""
UNKNOWN_TAGS = f"{CORPUS}/unknown_tags"
"""Directory for the tags that mean no class."""
ERASED_FILE = f"{CORPUS}/erased/list.json"
"""What was erased, as digests (:mod:`dcsp.tables.erased`)."""
LATEST = "latest"
"""In the place of a fingerprint: the latest ingest, which need not have become a snapshot."""

TRUTH_DIRECTORY = "truth"
"""Directory for ground-truth masks, apart from the parts they belong to."""

STAGE_FILE = "stage.json"
"""Beside the parts of a table, or in a checkpoint: what decides it."""
STATUSES_FILE = "statuses.json"
"""Beside the parts of a table: part → its bytes and its rows of each status."""
THRESHOLDS_FILE = "thresholds.json"
"""Beside the table of self-tags: what they rest on."""

CHECKPOINTS = "checkpoints"
"""Directory of trained networks."""
RESUMABLE = f"{CHECKPOINTS}/resumable"
"""Directory for trainings that have not ended."""
MODEL_FILE = "model.safetensors"
CARD_FILE = "model.json"
HISTORY_FILE = "history.json"
COMPLETE_FILE = "complete.json"
"""Written last into a finished checkpoint."""

RUNS = "runs"
RUN_FILE = "run.json"
METRICS_FILE = "metrics.json"
REPORT_FILE = "report/index.html"
CURRENT = "CURRENT"
"""File that names the published run."""
HISTORY = "history"
"""Directory for what was published and refused, an event a file (:mod:`dcsp.run.history`)."""
MARKS = {
    "predict.json": "dcsp predict",
    "export.json": "dcsp export",
    "review.json": "dcsp review",
}
"""File in a folder of masks → who wrote them, which it holds under ``job``."""
_FORMERLY = {"predict.json": "jobs/predict.py"}
"""What earlier versions wrote there."""
COMPARISONS = "comparisons"
"""Directory of the pages that show runs side by side."""

_NO_STAGES = (CORPUS, TRUTH_DIRECTORY, RUNS, COMPARISONS, HISTORY, CURRENT, LEASE)
"""What lies at the top of a store and is written by no stage."""


def is_mark(file: str, content: Any) -> bool:
    """Whether a file of :data:`MARKS` says that the masks beside it are of its writer."""
    job = content.get("job") if isinstance(content, dict) else None
    return job is not None and job in (MARKS[file], _FORMERLY.get(file))


def file_name(part: str) -> str:
    """What the file of a part is called in the directory of a table."""
    return f"{part}.parquet"


def part_file(directory: str, part: str) -> str:
    """File of one part of a table."""
    return f"{directory}/{file_name(part)}"


def manifest_file(key: StageKey, scope: str) -> str:
    """File that says that a table is complete for a scope (:func:`dcsp.stages.parts.scope`)."""
    return f"{key.directory}/complete-{scope}.json"


def is_manifest(name: str) -> bool:
    """Whether a file in the directory of a stage says that it has ended."""
    return name == COMPLETE_FILE or (name.startswith("complete-") and name.endswith(".json"))


def is_fingerprint(name: str) -> bool:
    """Whether a name is one that outputs and snapshots have."""
    return len(name) == FINGERPRINT_LENGTH and not name.strip("0123456789abcdef")


def is_output(names: Iterable[str]) -> bool:
    """Whether a directory of these names is one that a stage writes, and has begun to."""
    marks = (STAGE_FILE, COMPLETE_FILE, MODEL_FILE)
    return any(name in marks or name.endswith(".parquet") for name in names)


def current_run(store: Store) -> str | None:
    """Id of the published run; None before the first."""
    if not store.exists(CURRENT):
        return None
    return store.read_bytes(CURRENT).decode(errors="replace").strip()


def stage_directories(store: Store) -> list[str]:
    """Directories of a store that stages write, tables and checkpoints, in order of their names."""
    homes = [name for name in store.list("") if name not in _NO_STAGES]
    return [f"{home}/{name}" for home in homes for name in store.list(home)]


def snapshot_file(fingerprint: str) -> str:
    """File of a snapshot."""
    return f"{CORPUS}/{fingerprint}.json"


def rejected_file(fingerprint: str) -> str:
    """File of the rows that a snapshot, or the latest ingest, left out, with reasons."""
    return f"{CORPUS}/{fingerprint}.rejected.parquet"


def catalogue_file(fingerprint: str) -> str:
    """File of the catalogue of a snapshot."""
    return f"{CORPUS}/{fingerprint}.catalogue.parquet"


def unknown_file(fingerprint: str) -> str:
    """File of the unknown tags of a snapshot, or of the latest ingest: uses, and the commonest."""
    return f"{UNKNOWN_TAGS}/{fingerprint}.json"


def run_directory(run_id: str) -> str:
    """Directory of a run."""
    return f"{RUNS}/{run_id}"


def run_file(run_id: str) -> str:
    """What a run was: its config, corpus, steps and versions."""
    return f"{run_directory(run_id)}/{RUN_FILE}"


def metrics_file(run_id: str) -> str:
    """Figures of a run; a run has ended when it is there."""
    return f"{run_directory(run_id)}/{METRICS_FILE}"


def report_file(run_id: str) -> str:
    """Report of a run."""
    return f"{run_directory(run_id)}/{REPORT_FILE}"
