"""The stages of a run on a cluster, one method each; the jobs are thin scripts around this.

A stage that is done is never computed again, and the cluster is joined only when there is work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import cached_property

from dcsp.config import RunConfig
from dcsp.corpus.ingest import plan_batches
from dcsp.corpus.listing import Listing, list_corpus
from dcsp.corpus.pack import Record, Tally
from dcsp.corpus.source import TRAIN, Source
from dcsp.errors import StoreError
from dcsp.evaluation.run import Evaluator, Qualities, add_qualities, build_metrics
from dcsp.methods.step import Step
from dcsp.pipeline import Plan, build_plan
from dcsp.progress import Progress
from dcsp.report.collect import write_report
from dcsp.runs import (
    metrics_file,
    publish,
    report_file,
    save_run,
    step_record,
    table_rows,
)
from dcsp.tables.mapping import complete_stage, pending_parts
from dcsp.tables.snapshot import Snapshot, rejected_file
from dcsp.tables.store import Store
from dcsp.training.stage import TrainStage
from jobs import _cluster
from jobs._resources import Resources


def say(text: str) -> None:
    """One line for whoever watches the job."""
    print(text, file=sys.stderr, flush=True)


class Chain:
    """Runs stages of one config.

    Args:
        config: The run's settings.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.store = Store(config.store)
        self.computed: dict[str, bool] = {}
        self.seconds: dict[str, float] = {}

    @cached_property
    def resources(self) -> Resources:
        """Of the cluster, which is joined at the first use."""
        resources = _cluster.connect(self.config.cluster)
        say(f"cluster: {resources.nodes} node(s), {resources.cpus:g} CPUs, {resources.gpus:g} GPUs")
        return resources

    def ingest(self, source: Source | None = None) -> Snapshot:
        """List the source, pack what is new, and return the snapshot.

        Args:
            source: Images to label alone. Left out: the config's, to learn from; classes that none
                of its training images shows are told.
        """
        listing = list_corpus(self.store, self.config.corpus, self.config.seed, source)
        known = listing.known()
        self.computed["ingest"] = known is None
        if known is None:
            started = time.monotonic()
            snapshot = self._pack(listing)
            self.seconds["ingest"] = round(time.monotonic() - started, 3)
            listing.remember(snapshot, self.seconds["ingest"])
        else:
            snapshot, self.seconds["ingest"] = known
        images = sum(part.rows for part in snapshot.parts)
        note = "" if self.computed["ingest"] else ", nothing changed in the source"
        say(f"ingest: {images} images, {snapshot.rejected} rejected{note}")
        if source is None and snapshot.unseen and snapshot.of([TRAIN]):
            unseen = ", ".join(snapshot.unseen)
            say(f"ingest: no training image has a tag of these classes: {unseen}")
        return snapshot

    def _pack(self, listing: Listing) -> Snapshot:
        settings = self.config.corpus
        tally = Tally(settings.max_rejected_share, listing.duplicates)
        batches = plan_batches(listing.rows, settings.part_rows)
        _ = self.resources
        with Progress("ingest", len(listing.rows)) as progress:

            def count(record: Record) -> None:
                tally.add(record)
                progress.advance(record["listed"])

            _cluster.map_items(listing.packer, batches, self.config.cluster, count, title="ingest")
        snapshot = tally.snapshot(settings.classes)
        self.store.write_table(rejected_file(snapshot.fingerprint), tally.rejected)
        snapshot.save(self.store)
        return snapshot

    def plan(self) -> Plan:
        """Ingest and lay out the stages."""
        return build_plan(self.config, self.ingest())

    def run(self, plan: Plan, step: Step) -> None:
        """Do one step, or say that it is done."""
        self.computed[step.title] = not step.is_done(self.store, plan.snapshot)
        if self.computed[step.title]:
            self._compute(plan, step)
        else:
            say(f"{step.title}: done before ({step.stage.key.directory})")
        self.seconds[step.title] = step_record(self.store, plan, step)["seconds"]

    def require(self, plan: Plan, titles: Sequence[str], job: str) -> None:
        """Make sure that steps are done that a job needs and does not do itself.

        Raises:
            StoreError: One is not; the message names the job that does it.
        """
        for title in titles:
            if not plan.step(title).is_done(self.store, plan.snapshot):
                raise StoreError(
                    f"The stage {title} of this config is not done in {self.store.url}: "
                    f"run {job} with the same config first."
                )

    def _compute(self, plan: Plan, step: Step) -> None:
        parts = step.parts(plan.snapshot)
        settings = self.config.cluster
        started = time.monotonic()
        if isinstance(step.stage, TrainStage):
            total = step.stage.settings.steps * step.stage.settings.batch
            with Progress(step.title, total) as progress:
                _cluster.train(self.store, step.stage, parts, self.resources, settings, progress)
            return
        pending = pending_parts(self.store, step.stage, parts)
        with Progress(step.title, sum(part.rows for part in pending)) as progress:
            summaries = _cluster.map_parts(
                self.store, step.stage, pending, self.resources, settings, progress
            )
        seconds = time.monotonic() - started
        scope = step.scope(plan.snapshot)
        manifest = complete_stage(self.store, step.stage, scope, parts, summaries, seconds)
        counts = ", ".join(f"{count} {status}" for status, count in manifest["rows"].items())
        say(f"{step.title}: {counts} rows in {seconds:.0f} s")

    def finish(self, plan: Plan) -> None:
        """Evaluate, write the report, and publish the run."""
        self.record(plan)
        publish(self.store, plan.run_id)
        say(f"run {plan.run_id} is published")

    def record(self, plan: Plan) -> None:
        """Evaluate and write the report, where that was not done before."""
        done = self.store.exists(metrics_file(plan.run_id))
        if not done:
            save_run(self.store, plan, self.computed)
            self.evaluate(plan)
        if not (done and self.store.exists(report_file(plan.run_id))):
            write_report(self.store, plan)

    def evaluate(self, plan: Plan) -> None:
        """Compare every table with the ground truth and write ``metrics.json``."""
        started = time.monotonic()
        parts = [part for part in plan.snapshot.parts if part.truth]
        qualities: Qualities = {}
        ended = iter(parts)  # results come in the order of the parts
        _ = self.resources
        with Progress("evaluation", sum(part.rows for part in parts)) as progress:

            def count(quality: Qualities) -> None:
                nonlocal qualities
                qualities = add_qualities(qualities, quality)
                progress.advance(next(ended).rows)

            evaluator = Evaluator(self.store, plan)
            _cluster.map_items(evaluator, parts, self.config.cluster, count, title="evaluation")
        self.seconds["evaluation"] = round(time.monotonic() - started, 3)
        metrics = build_metrics(plan, qualities, self.seconds, table_rows(self.store, plan))
        self.store.write_json(metrics_file(plan.run_id), metrics)
