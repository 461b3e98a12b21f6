"""What a config would do, as text: stages, fingerprints, what is done, what will run."""

from __future__ import annotations

from dcsp.config import RunConfig
from dcsp.pipeline import Plan, Step, build_plan
from dcsp.tables.snapshot import CorpusPart, Snapshot
from dcsp.tables.store import Store

UNKNOWN = "after ingest"


def describe(store: Store, config: RunConfig, snapshot: Snapshot | None) -> str:
    """The stages of a run as a table.

    Args:
        store: Where to look for finished stages.
        config: The run's settings.
        snapshot: What ingest would give; None when the source has to be read first.

    Raises:
        DcspError: The config names what is not there.
    """
    lines = [f"{'stage':<16} {'fingerprint':<21} {'images':>9}  what will happen"]
    if snapshot is None:
        lines.append(_line("ingest", UNKNOWN, "", "will list the source and read what is new"))
        placeholder = Snapshot(config.corpus.classes, (CorpusPart("unknown", "train", 0),))
        for step in build_plan(config, placeholder):
            print_ = UNKNOWN if step.needs_snapshot else step.stage.key.fingerprint
            lines.append(_line(step.title, print_, "", "will run, unless done before"))
        return "\n".join(lines)
    plan = build_plan(config, snapshot)
    total = sum(part.rows for part in snapshot.parts)
    lines.append(_line("ingest", snapshot.fingerprint, str(total), "done"))
    lines += [_planned(store, plan, step) for step in plan]
    lines.append(_line("run", plan.run_id, "", "evaluation, report"))
    return "\n".join(lines)


def _planned(store: Store, plan: Plan, step: Step) -> str:
    left = step.rows_left(store, plan.snapshot)
    what = "done" if step.is_done(store, plan.snapshot) else f"will run, {left} images to go"
    rows = sum(part.rows for part in step.parts(plan.snapshot))
    return _line(step.title, step.stage.key.fingerprint, str(rows), what)


def _line(title: str, fingerprint: str, images: str, what: str) -> str:
    return f"{title:<16} {fingerprint:<21} {images:>9}  {what}"
