"""What a config would do, as text: stages, fingerprints, what is done, what will run."""

from __future__ import annotations

from dcsp.config import RunConfig
from dcsp.corpus.listing import list_corpus
from dcsp.errors import CorpusError
from dcsp.run.plan import Plan, draft_plan
from dcsp.run.retraining import plan_run
from dcsp.stages.stage import Stage
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.snapshot import Snapshot

UNKNOWN = "after ingest"


def describe(config: RunConfig) -> str:
    """The stages of a run as a table: what is done, and what submitting it would do.

    Lists the source, reads no image and computes nothing. A source that is not there yet is told of
    in a line of its own.

    Raises:
        DcspError: The config names weights that are not there.
    """
    store = Store(config.store)
    note = ""
    known = None
    try:
        known = list_corpus(store, config.corpus, config.seed).known()
    except CorpusError as error:
        note = f"\nnote: {error}"
    return stages_text(store, config, known[0] if known else None) + note


def stages_text(store: Store, config: RunConfig, snapshot: Snapshot | None) -> str:
    """The stages over one snapshot; None when the source has to be read first."""
    lines = [f"{'stage':<16} {'fingerprint':<21} {'images':>9}  what will happen"]
    if snapshot is None:
        lines.append(_line("ingest", UNKNOWN, "", "will list the source and read what is new"))
        for step in draft_plan(config):
            print_ = UNKNOWN if step.needs_snapshot else step.stage.key.fingerprint
            lines.append(_line(step.title, print_, "", "will run, unless done before"))
        return "\n".join(lines)
    plan = plan_run(store, config, snapshot)
    total = sum(part.live for part in snapshot.parts)
    lines.append(_line("ingest", snapshot.fingerprint, str(total), "done"))
    lines += [_planned(store, plan, step) for step in plan]
    lines.append(_line("run", plan.run_id, "", "evaluation, report"))
    return "\n".join(lines)


def _planned(store: Store, plan: Plan, step: Step[Stage]) -> str:
    left = step.left(store, plan.snapshot)
    done = not left and plan.is_done(store, step)
    what = "done" if done else f"will run, {left} images to go"
    rows = sum(part.live for part in plan.parts(step))
    return _line(step.title, step.stage.key.fingerprint, str(rows), what)


def _line(title: str, fingerprint: str, images: str, what: str) -> str:
    return f"{title:<16} {fingerprint:<21} {images:>9}  {what}"
