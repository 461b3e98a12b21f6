"""The stages of a run on a cluster, one method each; the jobs are thin scripts around this.

A stage that is done is never computed again, and the cluster is joined only when there is work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from dcsp.capacity import refusals as _preflight
from dcsp.capacity.resources import Resources
from dcsp.capacity.workload import largest_part
from dcsp.config import RunConfig
from dcsp.corpus.ingest import Each, Ingested, ingest
from dcsp.corpus.listing import Listing, list_corpus
from dcsp.corpus.sources.base import TRAIN, Source
from dcsp.corpus.sources.open import open_source
from dcsp.corpus.sources.shards import Shard, ShardedSource, ShardLister
from dcsp.corpus.unknown_tags import tag_notes
from dcsp.errors import StoreError
from dcsp.evaluation.run import Evaluator, Qualities, add_qualities, build_metrics
from dcsp.evaluation.selftags import selftag_metrics
from dcsp.progress import Progress
from dcsp.report.collect import write_report
from dcsp.run.plan import Plan
from dcsp.run.record import publish, save_run, step_record, table_rows
from dcsp.run.retraining import new_share, plan_run
from dcsp.stages.parts import complete_stage, pending_parts
from dcsp.stages.step import Step
from dcsp.store.lease import Lease
from dcsp.store.store import Store
from dcsp.tables.layout import metrics_file, report_file
from dcsp.tables.snapshot import Snapshot
from dcsp.text import duration
from dcsp.training.stage import TrainStage
from jobs import _cluster
from jobs._watch import Patience, Result, within


def say(text: str) -> None:
    """One line for whoever watches the job."""
    print(text, file=sys.stderr, flush=True)


class Chain:
    """Runs stages of one config.

    Args:
        config: The run's settings.
        lease: Of the store that the job writes its results into; left out: nobody else is there.
        mines: Whether the job makes tables image by image; the cluster must then hold its actors.
        trains: Whether it trains networks; the cluster must then hold its training workers.
    """

    def __init__(
        self,
        config: RunConfig,
        lease: Lease | None = None,
        *,
        mines: bool = True,
        trains: bool = True,
    ) -> None:
        self.config = config
        self.lease = lease
        self._does = {"mines": mines, "trains": trains}
        self.store = Store(config.store)
        self.computed: dict[str, bool] = {}
        self.seconds: dict[str, float] = {}

    @cached_property
    def resources(self) -> Resources:
        """Of the cluster, which is joined at the first use, before anything is started.

        Raises:
            ClusterError: It cannot be joined, or the job would wait for ever on it.
        """
        resources = _cluster.connect(self.config.cluster)
        say(f"cluster: {resources.nodes} node(s), {resources.cpus:g} CPUs, {resources.gpus:g} GPUs")
        _preflight.check(resources, self.config, **self._does)
        return resources

    def ingest(self, source: Source | None = None) -> Snapshot:
        """List the source, pack what is new, and return the snapshot.

        Args:
            source: Images to label alone. Left out: the config's, to learn from; classes that none
                of its training images shows are told.
        """
        listing = self.list_source(source)
        known = listing.known()
        self.computed["ingest"] = known is None
        if known is None:
            started = time.monotonic()
            done = self._pack(listing)
            snapshot, note = done.snapshot, f", {done.new} new, {done.gone} gone"
            self.seconds["ingest"] = round(time.monotonic() - started, 3)
            listing.remember(snapshot, self.seconds["ingest"])
        else:
            snapshot, self.seconds["ingest"] = known
            note = ", nothing changed in the source"
            listing.lead(snapshot)
        images = sum(part.live for part in snapshot.parts)
        say(f"ingest: {images} images, {snapshot.rejected} rejected{note}")
        if source is None and snapshot.of([TRAIN]):
            for told in tag_notes(self.store, snapshot, self.config.corpus.min_tag_support):
                say(f"ingest: {told}")
        return snapshot

    def list_source(self, source: Source | None = None) -> Listing:
        """What the source lists now, within the limits of the job; left out: the config's."""
        settings, seed = self.config.corpus, self.config.seed
        source = source or open_source(settings, seed)
        if isinstance(source, ShardedSource):  # its tasks have the limits of the job
            return list_corpus(self.store, settings, seed, source, self._list_shards)
        return self._within("listing", lambda: list_corpus(self.store, settings, seed, source))

    def _list_shards(self, lister: ShardLister, shards: Sequence[Shard]) -> None:
        """List new and changed shards, each a task."""
        _ = self.resources
        with Progress("listing", len(shards), unit="shards") as progress:
            _cluster.map_items(
                lister, shards, self.config.cluster, lambda _: progress.advance(1), title="listing"
            )

    def _pack(self, listing: Listing) -> Ingested:
        _ = self.resources

        def map_items(
            function: Callable[[Any], Any], items: Sequence[Any], each: Each
        ) -> list[Any]:
            results: list[Any] = []

            def take(result: Any) -> None:
                results.append(result)
                each(result)

            _cluster.map_items(function, items, self.config.cluster, take, title="ingest")
            return results

        with Progress("ingest", len(listing.rows)) as progress:
            return ingest(listing, map_items, progress.advance)

    def plan(self) -> Plan:
        """Ingest and lay out the stages."""
        plan = plan_run(self.store, self.config, self.ingest())
        if plan.learned_from:
            share = new_share(plan.snapshot, plan.learned)
            say(f"networks: those of the last run stay, {share:.1%} of the training images are new")
        return plan

    def run(self, plan: Plan, step: Step) -> None:
        """Do one step, or say that it is done."""
        if self.lease:
            self.lease.check()
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
        stage, parts = step.stage, plan.parts(step)
        settings = self.config.cluster
        started = time.monotonic()
        if step.prepare:
            prepare = step.prepare
            say(f"{step.title}: {self._within(step.title, lambda: prepare(self.store))}")
        if isinstance(stage, TrainStage):
            total = stage.settings.steps * stage.settings.batch
            with Progress(step.title, total) as progress:
                _cluster.train(self.store, stage, parts, self.resources, settings, progress)
            return
        pending = pending_parts(self.store, stage, parts)
        _preflight.check_parts(self.resources, largest_part(self.store, plan.snapshot))
        with Progress(step.title, sum(part.rows for part in pending)) as progress:
            summaries = _cluster.map_parts(
                self.store, stage, pending, self.resources, settings, progress
            )
        seconds = time.monotonic() - started
        scope = step.scope(plan.snapshot)
        actors = self.resources.mining_actors(settings, len(pending)) if pending else None
        manifest = self._within(
            step.title,
            lambda: complete_stage(self.store, stage, scope, parts, summaries, seconds, actors),
        )
        counts = ", ".join(f"{count} {status}" for status, count in manifest["rows"].items())
        say(f"{step.title}: {counts} rows in {duration(seconds)}")

    def finish(self, plan: Plan) -> None:
        """Evaluate, write the report, and publish the run."""
        self.record(plan)
        if self.lease:
            self.lease.confirm()
        publish(self.store, plan.run_id)
        say(f"run {plan.run_id} is published")

    def record(self, plan: Plan) -> None:
        """Evaluate and write the report, where that was not done before."""
        done = self.store.exists(metrics_file(plan.run_id))
        if not done:
            save_run(self.store, plan, self.computed)
            self.evaluate(plan)
        if not (done and self.store.exists(report_file(plan.run_id))):
            self._within("report", lambda: write_report(self.store, plan))

    def _within(self, title: str, work: Callable[[], Result]) -> Result:
        """Do what this process does alone, within the limits of the job."""
        settings = self.config.cluster
        return within(Patience(title, settings.stall_minutes, settings.total_minutes), work)

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
        metrics |= self._within("evaluation", lambda: selftag_metrics(self.store, plan))
        self.store.write_json(metrics_file(plan.run_id), metrics)
