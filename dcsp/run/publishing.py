"""Whether a run that has ended is published: what its config wants, its gates, and the history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from dcsp.errors import HeldBackError, StoreError
from dcsp.progress import say
from dcsp.run.gates import Candidate, check_gates, figures_of
from dcsp.run.history import Event, History, add_event, read_history
from dcsp.run.notify import PUBLISHED, REFUSED, Notice, notify
from dcsp.run.plan import Plan
from dcsp.run.record import publish
from dcsp.stages.parts import scopes
from dcsp.store.store import Store
from dcsp.tables.erased import ERASED
from dcsp.tables.layout import (
    COMPLETE_FILE,
    current_run,
    file_name,
    metrics_file,
    rejected_file,
    report_file,
    run_file,
)
from dcsp.tables.snapshot import Snapshot
from dcsp.text import quantity


def settle(store: Store, plan: Plan, by: str, still_ours: Callable[[], None]) -> None:
    """Publish a run that has ended, or hold it back, and tell everybody who is to know.

    Args:
        store: The store, whose lease the caller holds.
        plan: The run.
        by: Name of the job.
        still_ours: Called before anything is written; raises where the lease was lost.

    Raises:
        HeldBackError: It fails a gate, or was withdrawn; the run that was published stays.
        StoreError: A file cannot be read or written.
    """
    config, run_id = plan.config, plan.run_id
    published = current_run(store)
    if run_id == published:
        say(f"run {run_id} is published")
        return
    run = _candidate(store, plan, published)
    failed = [gate for gate in check_gates(config.gates, run) if not gate.passed]
    for gate in failed:
        say(f"gate: {gate.sentence}")
    if config.publish == "never":
        say(f"run {run_id} is not published: `dcsp publish {store.url} {run_id}` publishes it")
        return
    notice = Notice(
        PUBLISHED,
        by,
        config.name,
        store.url,
        run=run_id,
        reasons=tuple(gate.sentence for gate in failed),
        figures=figures_of(run),
        report=store.path(report_file(run_id)),
    )
    still_ours()
    if held := _why_held_back(store, run, config.publish, [gate.name for gate in failed]):
        reason, error = held
        notice = replace(notice, event=REFUSED, reasons=(*reason, *notice.reasons))
        _remember(store, Event("held back", run_id, by, published, reasons=notice.reasons))
        notify(config.notify, notice)
        raise error
    publish(store, run_id, by, notice.reasons)
    say(f"run {run_id} is published")
    notify(config.notify, notice)


def roll_back(store: Store, target: str | None, still_ours: Callable[[], None]) -> None:
    """Publish the run again that was published before the current one.

    A rollback after a rollback goes further back: what was gone back from is withdrawn.

    Args:
        store: The store, whose lease the caller holds.
        target: Id of the run to go back to; left out: the nearest one.
        still_ours: Called before anything is written; raises where the lease was lost.

    Raises:
        StoreError: There is no such run, or it is not whole any more.
    """
    history = read_history(store)
    chosen = _target(store, history, target)
    still_ours()
    publish(store, chosen, "dcsp rollback", withdrawn=history.passed(chosen))


def require_whole(store: Store, run_id: str) -> None:
    """Make sure that all is there that a run says it is made of.

    Raises:
        StoreError: Its figures, a table or a network is gone.
    """
    for name in (run_file(run_id), metrics_file(run_id)):
        if not store.exists(name):
            raise StoreError(
                f"The run {run_id} cannot be published: {store.path(name)} is not there; submit "
                "its job again."
            )
    run = store.read_json(run_file(run_id))
    fingerprints = dict.fromkeys((run["snapshot"], run.get("learned", run["snapshot"])))
    complete = [{COMPLETE_FILE}]
    for snapshot in (Snapshot.load(store, fingerprint) for fingerprint in fingerprints):
        for scope, parts in scopes(snapshot).items():
            files = {file_name(part.name) for part in parts}
            complete.append({f"complete-{scope}.json", *files})
    for step in run["steps"]:
        found = {*store.list(step["directory"])}
        if not any(files <= found for files in complete):
            raise StoreError(
                f"The run {run_id} cannot be published: {store.path(step['directory'])} is gone "
                "or incomplete; submit its job again."
            )


def _candidate(store: Store, plan: Plan, published: str | None) -> Candidate:
    before = None
    if published and store.exists(metrics_file(published)):
        before = store.read_json(metrics_file(published))
    metrics = store.read_json(metrics_file(plan.run_id))
    share = _rejected_share(store, plan.snapshot)
    return Candidate(plan.run_id, metrics, share, published, before)


def _rejected_share(store: Store, snapshot: Snapshot) -> float:
    """Share of the images that are not in a corpus; those that were erased count nowhere."""
    reasons = store.read_table(rejected_file(snapshot.fingerprint), ["reason"])["reason"]
    erased = len(reasons.filter(pc.equal(reasons, pa.scalar(ERASED))))
    lost = max(0, snapshot.rejected - erased)
    return lost / max(1, lost + sum(part.live for part in snapshot.parts))


def _why_held_back(
    store: Store, run: Candidate, policy: str, failed: Sequence[str]
) -> tuple[Sequence[str], HeldBackError] | None:
    """Reasons beside failed gates, and what ends the job; None of a run that may be published."""
    by_hand = f"`dcsp publish {store.url} {run.run_id}`"
    if rollback := read_history(store).withdrawn.get(run.run_id):
        return [f"it was withdrawn by {rollback.by} at {rollback.at}"], HeldBackError(
            f"The run {run.run_id} was withdrawn by {rollback.by} at {rollback.at}, and is not "
            f"published again by a job: {by_hand} publishes it."
        )
    if failed and policy == "gated":
        stays = f"{run.published} stays published" if run.published else "nothing is published"
        names = ", ".join(f"gates.{name}" for name in failed)
        return [], HeldBackError(
            f"The run {run.run_id} fails {quantity(len(failed), 'gate')} ({names}) and {stays}: "
            f"look at its report, then change gates and submit again, or {by_hand}."
        )
    return None


def _remember(store: Store, event: Event) -> None:
    """Write down that a run was held back, once as long as nothing else happens."""
    events = read_history(store).events
    if not events or replace(events[-1], at="") != event:
        add_event(store, event)


def _target(store: Store, history: History, target: str | None) -> str:
    current, earlier = history.current, history.earlier
    by_hand = "`dcsp show STORE` lists the runs, `dcsp publish STORE RUN` publishes one"
    if current is None:
        raise StoreError(f"The store {store.url} has no published run to go back from: {by_hand}.")
    if not history.events:
        raise StoreError(
            f"The store {store.url} has no history of what was published before {current}, as a "
            f"version of dcsp without one published it: {by_hand}."
        )
    if not earlier:
        raise StoreError(
            f"The history of {store.url} has no run before {current} that was not withdrawn: "
            f"{by_hand}."
        )
    if target is not None and target not in earlier:
        raise StoreError(
            f"The run {target} was not published before {current}, or was withdrawn: go back to "
            f"one of {', '.join(earlier)}, or publish it (dcsp publish STORE RUN)."
        )
    chosen = target or earlier[0]
    try:
        require_whole(store, chosen)
    except StoreError as error:
        others = [run for run in earlier if run != chosen and _is_whole(store, run)]
        instead = f"--to {others[0]} goes to another one" if others else by_hand
        raise StoreError(f"{str(error).removesuffix('.')}; {instead}.") from error
    return chosen


def _is_whole(store: Store, run_id: str) -> bool:
    try:
        require_whole(store, run_id)
    except StoreError:
        return False
    return True
