"""The figures of a run, part by part and by whichever executor: masks, trust, and what changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from dcsp.errors import StoreError
from dcsp.evaluation.changes import Against, Changes, against
from dcsp.evaluation.pairing import compare_runs
from dcsp.evaluation.run import Evaluator, PartFigures, Qualities, add_qualities
from dcsp.evaluation.trust import TrustFigures, TrustSums, trust_metrics
from dcsp.progress import Progress, say
from dcsp.run.plan import Plan
from dcsp.stages.stage import Executor
from dcsp.stages.step import Role
from dcsp.store.store import Store
from dcsp.tables.layout import current_run, metrics_file, report_file
from dcsp.tables.snapshot import TRAIN, VAL
from dcsp.telemetry import TRUST, tell
from dcsp.trust.table import TrustStage

from ._watch import Result


class Within(Protocol):
    """Does what this process does alone, within the limits of the job."""

    def __call__(self, title: str, work: Callable[[], Result]) -> Result:
        """Do it, and return what it returns."""
        ...


@dataclass(frozen=True)
class Measuring:
    """Measures finished runs.

    Attributes:
        store: The store.
        executor: Where parts are looked at.
        within: Keeps the job's limits.
    """

    store: Store
    executor: Executor
    within: Within

    def figures(self, plan: Plan) -> tuple[Qualities, TrustFigures | None]:
        """How every table compares with the ground truth, and what trust says of the labels."""
        evaluator = Evaluator(self.store, plan)
        parts, qualities, trust = evaluator.parts, Qualities(), dict[str, TrustSums]()
        ended = iter(parts)  # results come in the order of the parts
        with Progress("evaluation", sum(part.rows for part in parts)) as progress:

            def count(found: PartFigures) -> None:
                nonlocal qualities
                part = next(ended)
                qualities = add_qualities(qualities, found.qualities)
                if found.trust:
                    before = trust.get(part.split)
                    trust[part.split] = before + found.trust if before else found.trust
                progress.advance(part.rows)

            self.executor.items(evaluator, parts, count, "evaluation")
        return qualities, _trust_figures(plan, trust)

    def against(self, plan: Plan) -> Against | None:
        """What changed against the published run; None where nothing can be compared.

        It never stops a run: what was published before may be gone, or of another version.
        """
        before = current_run(self.store)
        if not before or before == plan.run_id or not plan.labelled:
            return None
        try:
            return self._compare(before, plan.run_id)
        except StoreError as error:
            say(f"evaluation: it is not told what changed against the run {before}: {error}")
            return None

    def _compare(self, before: str, after: str) -> Against:
        work = self.within("evaluation", lambda: compare_runs(self.store, before, after))
        total, ended = work.start, iter(work.pairings)
        with Progress("changes", sum(pairing.images for pairing in work.pairings)) as progress:

            def count(changes: Changes) -> None:
                nonlocal total
                total += changes
                progress.advance(next(ended).images)

            self.executor.items(work.part, work.pairings, count, "evaluation")
        return against(total, work.classes, before)


def tell_trust(metrics: Mapping[str, Any]) -> None:
    """Tell operators the trust of a run's labels, of which these are the figures."""
    for percent, score in ((metrics.get("trust") or {}).get("quantiles") or {}).items():
        tell(TRUST, score, quantile=f"{float(percent) / 100:g}")


def _trust_figures(plan: Plan, sums: dict[str, TrustSums]) -> TrustFigures | None:
    steps = plan.of(Role.TRUST)
    if not steps:
        return None
    missed = cast(TrustStage, steps[0].stage).model.missed
    return trust_metrics(sums, plan.config.corpus.classes, missed)


def show_figures(store: Store, plan: Plan) -> None:
    """Say the figures of a run that was evaluated, and print where its report is."""
    for line in summary(store.read_json(metrics_file(plan.run_id))):
        say(line)
    print(f"report: {store.path(report_file(plan.run_id))}", flush=True)


def summary(metrics: dict[str, Any]) -> list[str]:
    """The figures of a run, in lines."""
    lines = []
    for phase, cues in metrics["cues"].items():
        if cues["miou"] is not None:
            first = f" (with S_1 alone {cues['miou_s1']:.1f})" if cues.get("miou_s1") else ""
            lines.append(f"cues {phase}: mIoU {cues['miou']:.1f}{first}")
    for split in (TRAIN, VAL):
        found = metrics.get(split)
        if found and found["miou"] is not None:
            crf = f", with CRF {found['miou_crf']:.1f}" if found["miou_crf"] is not None else ""
            lines.append(f"{split}: mIoU of the network alone {found['miou']:.1f}{crf}")
            lines.append(f"{split}: mIoU of published labels {found['miou_published']:.1f}")
    return lines or ["no usable ground truth: nothing was measured"]
