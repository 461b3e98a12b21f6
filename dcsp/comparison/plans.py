"""What a comparison would compute: the stages of all its runs, each different one once.

Nothing is ingested and no image is read; ``--dry-run`` prints this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dcsp.comparison.grid import GridRun
from dcsp.config import RunConfig
from dcsp.errors import ConfigError, DcspError
from dcsp.run.overview import UNKNOWN, known_snapshot
from dcsp.run.plan import Plan, build_plan, draft_plan
from dcsp.stages.stage import Stage
from dcsp.stages.step import Step
from dcsp.store.store import Store
from dcsp.tables.fingerprint import digest
from dcsp.tables.layout import metrics_file
from dcsp.tables.snapshot import Snapshot
from dcsp.text import in_columns, quantity


def corpus_key(config: RunConfig) -> str:
    """Equal for configs that ingest the same images: the seed decides generated scenes alone."""
    seed = config.seed if config.corpus.kind == "scenes" else None
    return digest([config.corpus.model_dump(mode="json"), seed])


def plan_until(config: RunConfig, snapshot: Snapshot, until: str | None) -> Plan:
    """The plan of a run, whole or up to a cue table.

    Raises:
        ConfigError: The plan has no such table.
        DcspError: It cannot be laid out.
    """
    plan = build_plan(config, snapshot)
    return plan.until(until) if until else plan


def draft_plans(runs: Sequence[GridRun], until: str | None = None) -> list[Plan]:
    """The stages of every run before its corpus is known: equal stages have equal fingerprints.

    Raises:
        ConfigError: The stages of a combination cannot be laid out, for instance because its
            weights are not there; the message names it.
    """
    plans = []
    for run in runs:
        try:
            plan = draft_plan(run.config, lineage=corpus_key(run.config))
            plans.append(plan.until(until) if until else plan)
        except DcspError as error:
            raise ConfigError(
                f"The combination {run.combination.label} is refused: {error}"
            ) from error
    return plans


@dataclass(frozen=True)
class Preview:
    """One run and its plan.

    Attributes:
        run: The run.
        plan: Its stages; fingerprints are provisional where the snapshot is not known.
        is_known: Whether the corpus has been ingested.
    """

    run: GridRun
    plan: Plan
    is_known: bool


def describe_comparison(runs: Sequence[GridRun], until: str | None = None) -> str:
    """The runs and their stages as text: what is done, what would run, and what runs share.

    Lists the source, reads no image and computes nothing. A source that is not there yet is told of
    in a line of its own.

    Raises:
        ConfigError: The stages of a combination cannot be laid out.
    """
    previews, note = _previews(runs, until)
    stages = _stages(previews)
    total = sum(len(preview.plan.steps) for preview in previews)
    head = (
        f"{quantity(len(previews), 'run')} with {quantity(total, 'stage')}, "
        f"{len(stages)} of them different"
    )
    return "\n".join([head, "", *_run_lines(previews), "", *_stage_lines(stages), *note])


def _previews(runs: Sequence[GridRun], until: str | None) -> tuple[list[Preview], list[str]]:
    snapshots: dict[str, Snapshot | None] = {}
    notes: dict[str, None] = {}
    previews = []
    for run, draft in zip(runs, draft_plans(runs, until), strict=True):
        key = corpus_key(run.config)
        if key not in snapshots:
            snapshots[key], note = known_snapshot(run.config)
            notes |= dict.fromkeys(note)
        snapshot = snapshots[key]
        plan = draft if snapshot is None else plan_until(run.config, snapshot, until)
        previews.append(Preview(run, plan, snapshot is not None))
    return previews, list(notes)


@dataclass(frozen=True)
class _Stage:
    """One different stage: where it was met first, and the numbers of the runs that need it."""

    first: Preview
    step: Step[Stage]
    users: list[int]

    @property
    def is_done(self) -> bool:
        plan = self.first.plan
        return self.first.is_known and plan.is_done(Store(plan.config.store), self.step)


def _stages(previews: Sequence[Preview]) -> list[_Stage]:
    """Every different stage over its parts, in the order in which runs meet them."""
    found: dict[tuple[str, str], _Stage] = {}
    for number, preview in enumerate(previews, start=1):
        for step in preview.plan:
            key = (step.stage.key.directory, step.scope(preview.plan.snapshot))
            found.setdefault(key, _Stage(preview, step, [])).users.append(number)
    return list(found.values())


def _run_lines(previews: Sequence[Preview]) -> list[str]:
    rows = [("run", "what will happen", "settings")]
    for number, preview in enumerate(previews, start=1):
        plan = preview.plan
        ended = preview.is_known and Store(plan.config.store).exists(metrics_file(plan.run_id))
        what = "done" if ended else "will run"
        rows.append((str(number), what, preview.run.label))
    return in_columns(rows, "><<")


def _stage_lines(stages: Sequence[_Stage]) -> list[str]:
    rows = [("stage", "fingerprint", "what will happen", "runs")]
    for stage in stages:
        unknown = stage.step.needs_snapshot and not stage.first.is_known
        fingerprint = UNKNOWN if unknown else stage.step.stage.key.fingerprint
        what = "done" if stage.is_done else "will run"
        what += ", shared" if len(stage.users) > 1 else ""
        users = ", ".join(map(str, stage.users))
        rows.append((stage.step.title, fingerprint, what, users))
    return in_columns(rows, "<<<<")
