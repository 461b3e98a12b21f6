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
from dcsp.text import in_columns

UNKNOWN = "after ingest"


def describe(config: RunConfig) -> str:
    """The stages of a run as a table: what is done, and what submitting it would do.

    Lists the source, reads no image and computes nothing. A source that is not there yet is told of
    in a line of its own.

    Raises:
        DcspError: The config names weights that are not there.
    """
    snapshot, note = known_snapshot(config)
    return "\n".join([stages_text(Store(config.store), config, snapshot), *note])


def known_snapshot(config: RunConfig) -> tuple[Snapshot | None, list[str]]:
    """What the source lists now, where that was ingested, and a note where there is no source."""
    try:
        known = list_corpus(Store(config.store), config.corpus, config.seed).known()
    except CorpusError as error:
        return None, [f"note: {error}"]
    return (known[0] if known else None), []


def stages_text(store: Store, config: RunConfig, snapshot: Snapshot | None) -> str:
    """The stages over one snapshot as a table; None when the source has to be read first."""
    return "\n".join(in_columns(stage_rows(store, config, snapshot), "<<><"))


def stage_rows(
    store: Store, config: RunConfig, snapshot: Snapshot | None
) -> list[tuple[str, str, str, str]]:
    """Rows of that table, its header first."""
    rows = [("stage", "fingerprint", "images", "what will happen")]
    if snapshot is None:
        rows.append(("ingest", UNKNOWN, "", "will list the source and read what is new"))
        for step in draft_plan(config):
            print_ = UNKNOWN if step.needs_snapshot else step.stage.key.fingerprint
            rows.append((step.title, print_, "", "will run, unless done before"))
    else:
        plan = plan_run(store, config, snapshot)
        total = sum(part.live for part in snapshot.parts)
        rows.append(("ingest", snapshot.fingerprint, str(total), "done"))
        rows += [_planned(store, plan, step) for step in plan]
        rows.append(("run", plan.run_id, "", "evaluation, report"))
    return rows


def _planned(store: Store, plan: Plan, step: Step[Stage]) -> tuple[str, str, str, str]:
    done = plan.is_done(store, step)
    what = "done" if done else f"will run, {plan.left(store, step)} images to go"
    rows = sum(part.live for part in plan.parts(step))
    return (step.title, step.stage.key.fingerprint, str(rows), what)
