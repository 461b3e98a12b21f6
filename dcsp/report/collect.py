"""From a finished run in a store to its report: reads tables, computes nothing new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dcsp.config import CorpusSettings
from dcsp.config.file import dump_config
from dcsp.errors import StoreError
from dcsp.evaluation.pairing import compare_runs
from dcsp.evaluation.quality import Figures
from dcsp.methods.registry import method_of
from dcsp.progress import say
from dcsp.report.choice import Chosen, choose
from dcsp.report.data import CuePhase, Curve, ReportData
from dcsp.report.earlier import Earlier
from dcsp.report.images import CardReader
from dcsp.report.page import build_report
from dcsp.run.plan import Plan
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import metrics_file, rejected_file, report_file, run_file
from dcsp.tables.snapshot import TRAIN, VAL

UNPLOTTED = {"step", "learning_rate"}


def write_report(store: Store, plan: Plan) -> str:
    """Write the report of a run that has its metrics; returns its name in the store.

    Raises:
        StoreError: A table of the run is not there.
    """
    name = report_file(plan.run_id)
    store.write_bytes(name, build_report(collect(store, plan)).encode())
    return name


def collect(store: Store, plan: Plan) -> ReportData:
    """Everything the report of a run shows."""
    chosen = choose(store, plan)
    run: dict[str, Any] = store.read_json(run_file(plan.run_id))
    metrics: dict[str, Any] = store.read_json(metrics_file(plan.run_id))
    split = VAL if VAL in metrics and metrics[VAL]["images"] else TRAIN
    figures: dict[str, Figures | None] = metrics.get(split, {}).get("figures", {})
    rejected = store.read_table(rejected_file(plan.snapshot.fingerprint), ["reason"])
    return ReportData(
        run_id=plan.run_id,
        created=run["created"],
        store=store.url,
        corpus=_corpus_line(plan.config.corpus),
        classes=plan.snapshot.classes,
        images={s: plan.snapshot.rows([s]) for s in plan.config.corpus.splits},
        method=method_of(plan.config).words,
        start=_phases(plan, metrics, Role.START),
        cues=_phases(plan, metrics, Role.CUES),
        compared={
            step.name: metrics["cues"][step.name]["figures"] for step in plan.of(Role.COMPARED)
        },
        prediction=figures.get("without_crf"),
        prediction_crf=figures.get("with_crf"),
        published={
            s: metrics[s]["figures"].get("published") for s in plan.labelled if metrics[s]["images"]
        },
        measured_split=split,
        curves=list(_curves(store, plan)),
        seconds=metrics["seconds"],
        reused=frozenset(s["title"] for s in run["steps"] if not s["computed"]),
        rows={name: rows for name, rows in metrics["rows"].items() if name != "cues"},
        rejected=dict(Counter(map(str, rejected["reason"].to_pylist()))),
        fingerprints={s.title: s.stage.key.fingerprint for s in plan.steps},
        settings=dump_config(plan.config),
        versions=run["versions"],
        gallery=CardReader(store, plan, earlier(store, plan, metrics, chosen)).cards(chosen),
        against=metrics.get("against"),
        masks=plan.snapshot.masks,
        ends_with_cues=plan.model is None,
        selftags=metrics.get("selftags"),
        selfcues=_selfcues(plan, metrics),
        trust=metrics.get("trust"),
        corrections=metrics.get("corrections", {}),
    )


def _phases(plan: Plan, metrics: dict[str, Any], role: Role) -> list[CuePhase]:
    """The cues of a role, by phase, with their figures."""
    return [
        CuePhase(
            step.phase or 0,
            step.stage.key.settings["method"],
            metrics["cues"][step.name]["figures"],
            metrics["cues"][step.name].get("miou_s1"),
        )
        for step in plan.of(role)
    ]


def _selfcues(plan: Plan, metrics: dict[str, Any]) -> Figures | None:
    steps = plan.of(Role.SELFCUES)
    figures: Figures | None = metrics["cues"][steps[-1].name]["figures"] if steps else None
    return figures if figures and figures["images"] else None


def _corpus_line(settings: CorpusSettings) -> str:
    if settings.kind == "scenes":
        return "generated scenes"
    return f"{settings.kind} at {settings.root}"


def _curves(store: Store, plan: Plan) -> Iterator[Curve]:
    for step in plan.trainings:
        history = step.stage.history(store)
        names = [n for n in (history[0] if history else ()) if n not in UNPLOTTED]
        losses = {n: [(int(entry["step"]), entry[n]) for entry in history] for n in names}
        yield Curve(step.title, losses)


def earlier(
    store: Store, plan: Plan, metrics: Mapping[str, Any], chosen: Sequence[Chosen]
) -> Earlier | None:
    """The labels that a run was compared with, of images that are shown.

    None where there was no run, or it is gone.
    """
    against = metrics.get("against")
    if not chosen or not against or not against["images_changed"]:
        return None
    only = {of_part.part.name for of_part in chosen}
    try:
        return Earlier(store, compare_runs(store, against["run"], plan.run_id, only))
    except StoreError as error:
        say(f"report: it does not show what changed against the run {against['run']}: {error}")
        return None
