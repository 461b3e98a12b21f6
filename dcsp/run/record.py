"""What a run leaves: ``runs/<run_id>/run.json``, ``metrics.json``, the report, and ``CURRENT``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dcsp.config import CueSettings, RunConfig
from dcsp.config.file import parse_config
from dcsp.errors import StoreError
from dcsp.networks.checkpoint import checkpoint_is_complete
from dcsp.run.history import Event, Kind, add_event
from dcsp.run.plan import Plan, build_plan
from dcsp.stages.libraries import NETWORKS, versions
from dcsp.stages.stage import Stage
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.layout import CURRENT, current_run, metrics_file, run_file
from dcsp.tables.schemas import ERROR, OK, SKIPPED
from dcsp.tables.snapshot import TRAIN, VAL, Snapshot

PACKAGES = ("dcsp", "ray", "onnxruntime", "pyarrow", "scikit-image", *NETWORKS)


def save_run(store: Store, plan: Plan, computed: Mapping[str, bool]) -> None:
    """Write down what a run was: its config, corpus, stages and versions.

    Args:
        store: The store.
        plan: The run.
        computed: Step → whether this submission computed it.
    """
    store.write_json(
        run_file(plan.run_id),
        {
            "run_id": plan.run_id,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "config": plan.config.model_dump(mode="json"),
            "snapshot": plan.snapshot.fingerprint,
            "learned": plan.learned.fingerprint,
            "steps": [
                {
                    "title": step.title,
                    "role": step.role.value,
                    "phase": step.phase,
                    "fingerprint": step.stage.key.fingerprint,
                    "directory": step.stage.key.directory,
                    "computed": computed.get(step.title, False),
                }
                for step in plan.steps
            ],
            "model": plan.model.key.directory if plan.model else None,
            "versions": {"python": sys.version.split()[0], **versions(PACKAGES)},
        },
    )


@dataclass(frozen=True)
class RunModel:
    """The network of a run and what one must know to use it.

    Attributes:
        run_id: Id of the run.
        config: Its settings; files that they name may be gone.
        classes: Class names in id order, background left out.
        checkpoint: Directory of the network in the store.
    """

    run_id: str
    config: RunConfig
    classes: tuple[str, ...]
    checkpoint: str


def load_model(store: Store, run_id: str | None = None) -> RunModel:
    """The network of a run, by what was written down then: stages are not laid out again.

    So it outlives the files and the versions of stages that it was made with.

    Args:
        store: The store.
        run_id: Left out: the published run.

    Raises:
        StoreError: There is no such run, or it has no network.
    """
    run = _read_run(store, run_id)
    name, checkpoint = run["run_id"], run["model"]
    if checkpoint is None:
        raise StoreError(
            f"The run {name} ended with its cues and has no network: name another with --run, or "
            "run `dcsp relabel`."
        )
    if not checkpoint_is_complete(store, checkpoint):
        raise StoreError(
            f"The network of the run {name} is not in {store.path(checkpoint)}: submit the run's "
            "job again."
        )
    classes = Snapshot.load(store, run["snapshot"]).classes
    return RunModel(name, _config_of(run), classes, checkpoint)


def load_run(store: Store, run_id: str | None = None) -> tuple[dict[str, Any], Plan]:
    """What :func:`save_run` wrote, and the plan it describes.

    Args:
        store: The store.
        run_id: Left out: the published run.

    Raises:
        StoreError: There is no such run, or its stages have other fingerprints now: another
            version of dcsp made it, or a weights file that it names has changed.
    """
    run, plan = plan_now(store, run_id)
    known = [step["fingerprint"] for step in run["steps"]]
    plan = plan.first(len(known))  # it may have ended with a cue table
    changed = [
        step.title
        for step, before in zip(plan, known, strict=False)
        if before != step.stage.key.fingerprint
    ]
    if changed:
        raise StoreError(
            f"The stage {changed[0]} of the run {run['run_id']} has another fingerprint now: use "
            "the version of dcsp and the weights files that it was made with, or run "
            "`dcsp relabel` again."
        )
    return run, plan


def plan_now(store: Store, run_id: str | None = None) -> tuple[dict[str, Any], Plan]:
    """What :func:`save_run` wrote, and what the same config is with this version of dcsp.

    Args:
        store: The store.
        run_id: Left out: the published run.

    Raises:
        StoreError: There is no such run.
    """
    run = _read_run(store, run_id)
    learned = run.get("learned", run["snapshot"])
    plan = build_plan(
        _config_of(run),
        Snapshot.load(store, run["snapshot"]),
        Snapshot.load(store, learned) if learned != run["snapshot"] else None,
    )
    return run, plan


def learned_of(store: Store) -> Snapshot:
    """The corpus that the networks of the published run were trained on.

    Raises:
        StoreError: There is none.
    """
    run = _read_run(store, None)
    return Snapshot.load(store, run.get("learned", run["snapshot"]))


def _read_run(store: Store, run_id: str | None) -> dict[str, Any]:
    name = run_id or current_run(store)
    if not name:
        raise StoreError(f"The store {store.url} has no published run: run `dcsp relabel` first.")
    run: dict[str, Any] = store.read_json(run_file(name))
    return run


def _config_of(run: Mapping[str, Any]) -> RunConfig:
    told = run["config"]
    corpus = _with_synonyms_alone(told["corpus"])
    tree = {
        **told,
        "corpus": corpus,
        "cues": _without_strangers(told["cues"]),
        "saliency": _with_several_detectors(told["saliency"]),
    }
    return parse_config(tree, source=f"the config of the run {run['run_id']}")


def _without_strangers(cues: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the blocks of other packages' methods that the run did not use."""
    known = {*CueSettings.model_fields, cues.get("method")}
    return {name: value for name, value in cues.items() if name in known}


def _with_synonyms_alone(corpus: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose aliases (tag → class), as earlier versions wrote them, are synonyms."""
    settings = dict(corpus)
    synonyms = {name: list(tags) for name, tags in settings.get("synonyms", {}).items()}
    for tag, name in settings.pop("aliases", {}).items():
        synonyms.setdefault(name, []).append(tag)
    return settings | {"synonyms": synonyms}


def _with_several_detectors(saliency: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose one detector, as earlier versions wrote it, is a list of one."""
    settings = dict(saliency)
    if "detector" in settings:
        settings["detectors"] = settings.pop("detector")
    return settings


def publish(
    store: Store,
    run_id: str,
    by: str = "dcsp publish",
    reasons: Sequence[str] = (),
    withdrawn: Sequence[str] = (),
) -> None:
    """Make a run the published one: an event of the history, then the pointer, each in one write.

    Nothing is written where it is published already.

    Args:
        store: The store, whose lease the caller holds.
        run_id: Id of the run.
        by: Name of the job or command.
        reasons: Gates that it failed, and that were to stop nothing.
        withdrawn: Runs that are gone back from: their jobs do not publish them again.

    Raises:
        StoreError: The run has not ended.
    """
    if not store.exists(metrics_file(run_id)):
        raise StoreError(f"The run {run_id} in {store.url} has not ended: run it to its end first.")
    before = current_run(store)
    if run_id != before:
        kind: Kind = "rolled back" if withdrawn else "published"
        event = Event(kind, run_id, by, before, withdrawn=tuple(withdrawn), reasons=tuple(reasons))
        add_event(store, event)
        store.write_bytes(CURRENT, f"{run_id}\n".encode())


def step_record(store: Store, plan: Plan, step: Step[Stage]) -> dict[str, Any]:
    """What a finished step wrote about itself: ``seconds``, ``bytes`` and a table's ``rows``."""
    return step.stage.record(store, plan.parts(step))


def table_rows(store: Store, plan: Plan) -> dict[str, dict[str, int]]:
    """Table → status → rows; ``cues`` are the last phase's, each phase has its own entry too."""
    rows = {"corpus": {OK: plan.snapshot.rows([TRAIN, VAL]), SKIPPED: 0, ERROR: 0}}
    for step in plan.steps:
        if not step.stage.learns:
            rows[step.title] = step_record(store, plan, step)["rows"]
    return rows | {"cues": rows[plan.cue_steps[-1].title]}
