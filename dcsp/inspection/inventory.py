"""What lies in a store: its runs, its tables and checkpoints, and how two runs differ.

Everything is read from the JSON files that jobs leave; no model, part or image is opened, and
nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcsp.errors import StoreError
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import (
    CHECKPOINTS,
    CORPUS,
    RUNS,
    current_run,
    is_manifest,
    is_output,
    metrics_file,
    run_file,
    stage_directories,
)


@dataclass(frozen=True)
class Run:
    """One run of a store.

    Attributes:
        run_id: Id of the run.
        record: Content of ``run.json``.
        metrics: Content of ``metrics.json`` with dotted keys; None for a run that has not ended.
        is_current: Whether it is the published one.
    """

    run_id: str
    record: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    is_current: bool


@dataclass(frozen=True)
class Output:
    """One directory that a stage wrote: a table, or a checkpoint.

    Attributes:
        directory: Its name in the store, ending in the fingerprint.
        files: Name → bytes of what lies in it.
        manifests: What the stage wrote when it ended, one for each snapshot it was complete for.
        used_by: Ids of the runs with a step of this output.
    """

    directory: str
    files: Mapping[str, int]
    manifests: Sequence[Mapping[str, Any]]
    used_by: Sequence[str]

    @property
    def parts(self) -> int:
        """Finished parts; 0 for a checkpoint."""
        return sum(name.endswith(".parquet") for name in self.files)

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is a trained network instead of a table."""
        return self.directory.startswith(f"{CHECKPOINTS}/")

    @property
    def bytes(self) -> int:
        """Bytes of its files, folders inside left out."""
        return sum(self.files.values())


@dataclass(frozen=True)
class Difference:
    """One key whose values differ between two runs; None where a run lacks it."""

    key: str
    first: Any
    second: Any


def open_store(url: str) -> Store:
    """Open a store that must be there.

    Raises:
        StoreError: There is none at this place.
    """
    store = Store(url)
    if not {CORPUS, RUNS} & set(store.list("")):
        raise StoreError(f"There is no store at {url}: give the store= of a job that has run.")
    return store


def runs(store: Store) -> list[Run]:
    """The runs of a store, oldest first.

    Raises:
        StoreError: A file cannot be read.
    """
    found = [read_run(store, name) for name in store.list(RUNS)]
    known = [run for run in found if run is not None]
    return sorted(known, key=lambda run: (str(run.record.get("created", "")), run.run_id))


def find_run(store: Store, run_id: str | None = None) -> Run:
    """A run by its id or the start of it; the published run where no id is given.

    Raises:
        StoreError: There is no such run, or several ids start so.
    """
    known = runs(store)
    if run_id is None:
        current = [run for run in known if run.is_current]
        if not current:
            raise StoreError(
                f"The store {store.url} has no published run: name one of "
                f"{_listing([run.run_id for run in known])}."
            )
        return current[0]
    exact = [run for run in known if run.run_id == run_id]
    matches = exact or [run for run in known if run.run_id.startswith(run_id)]
    _require_one(store, "run", run_id, [run.run_id for run in matches or known], len(matches))
    return matches[0]


def outputs(store: Store) -> list[Output]:
    """Every table and checkpoint of a store, in order of their names.

    Raises:
        StoreError: A file cannot be read.
    """
    users: dict[str, list[str]] = {}
    for run in runs(store):
        for step in run.record.get("steps", ()):
            users.setdefault(step["directory"], []).append(run.run_id)
    found = (_read_output(store, directory, users) for directory in stage_directories(store))
    return [output for output in found if output is not None]


def find_output(store: Store, name: str) -> Output:
    """A table or checkpoint by ``TABLE/FINGERPRINT``; the start of the fingerprint is enough.

    Raises:
        StoreError: There is no such output, or several start so.
    """
    known = outputs(store)
    wanted = name.strip("/")
    matches = [
        output
        for output in known
        if output.directory.startswith(wanted) or output.directory.split("/")[1].startswith(wanted)
    ]
    names = [output.directory for output in matches or known]
    _require_one(store, "output", name, names, len(matches))
    return matches[0]


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A JSON tree as dotted keys and plain values; lists of plain values stay whole."""
    if isinstance(tree, Mapping) and tree:
        flat: dict[str, Any] = {}
        for key, value in tree.items():
            flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
        return flat
    return {prefix: tree}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """The dotted keys whose values differ between two JSON trees, in order of the first tree."""
    left, right = flatten(first), flatten(second)
    keys = [*left, *(key for key in right if key not in left)]
    return [
        Difference(key, left.get(key), right.get(key))
        for key in keys
        if left.get(key) != right.get(key)
    ]


def read_run(store: Store, run_id: str) -> Run | None:
    """A run by its whole id; None where nothing says what it was.

    Raises:
        StoreError: A file cannot be read.
    """
    record, metrics = run_file(run_id), metrics_file(run_id)
    if not store.exists(record):
        return None
    return Run(
        run_id,
        store.read_json(record),
        flatten(store.read_json(metrics)) if store.exists(metrics) else None,
        run_id == current_run(store),
    )


def directory_of(run: Run, role: Role) -> str | None:
    """Directory of the last table of a role that a run made; None where it made none."""
    steps = run.record.get("steps", ())
    found = [s["directory"] for s in steps if (s.get("role") or _role(s["title"])) == role.value]
    return found[-1] if found else None


def _role(title: str) -> str:
    """Role of a step of an old run, which tells titles alone."""
    return "cues" if title.startswith("cues_phase") else title


def _read_output(store: Store, directory: str, users: Mapping[str, Sequence[str]]) -> Output | None:
    files = store.sizes(directory)
    if not is_output(files):
        return None
    manifests = [
        store.read_json(f"{directory}/{name}") for name in sorted(files) if is_manifest(name)
    ]
    return Output(directory, files, manifests, users.get(directory, []))


def _require_one(store: Store, kind: str, wanted: str, names: Sequence[str], found: int) -> None:
    if found != 1:
        problem = f"more than one {kind} that starts with" if found else f"no {kind}"
        raise StoreError(
            f"The store {store.url} has {problem} {wanted!r}: name one of {_listing(names)}."
        )


def _listing(names: Sequence[str]) -> str:
    return ", ".join(_shortened(names)) or "none (the store has none yet)"


def _shortened(names: Sequence[str]) -> Iterator[str]:
    yield from names[:8]
    if len(names) > 8:
        yield f"and {len(names) - 8} more"
