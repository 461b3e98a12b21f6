"""The stages of a run, by whichever executor; the jobs are thin scripts around this.

A stage that is done is never computed again, and a cluster is joined only when there is work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from dcsp.capacity import refusals
from dcsp.capacity.resources import Resources
from dcsp.capacity.workload import largest_part
from dcsp.config import RunConfig
from dcsp.corpus.ingest import Ingested, Take, ingest
from dcsp.corpus.listing import Listing, list_corpus
from dcsp.corpus.mask_fit import mask_notes
from dcsp.corpus.sources.base import Source
from dcsp.corpus.sources.open import open_source
from dcsp.corpus.sources.shards import Shard, ShardedSource, ShardLister
from dcsp.corpus.unknown_tags import tag_notes
from dcsp.errors import ClusterError, DcspError, StoreError
from dcsp.evaluation.run import build_metrics
from dcsp.evaluation.selftags import selftag_metrics
from dcsp.inspection.recompute import check_recompute
from dcsp.progress import Progress, say
from dcsp.report.collect import write_report
from dcsp.run.here import Here
from dcsp.run.history import tell_published
from dcsp.run.plan import Plan, draft_plan
from dcsp.run.publishing import settle
from dcsp.run.record import save_run, step_record, table_rows
from dcsp.run.retraining import new_share, plan_run
from dcsp.stages.parts import begin_stage
from dcsp.stages.stage import Executor, Stage, TableStage
from dcsp.stages.step import Role, Step
from dcsp.store.lease import Lease
from dcsp.store.store import Store
from dcsp.tables.layout import LINEAGES, current_run, metrics_file, report_file, run_file
from dcsp.tables.snapshot import TRAIN, Snapshot
from dcsp.telemetry import at_stage, work_on
from dcsp.text import duration

from ._figures import Measuring, tell_trust
from ._watch import Patience, Result, within


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
        """What the executor has; a cluster is joined at the first use, before any work is started.

        Raises:
            ClusterError: It cannot be joined, or the job would wait for ever on it.
        """
        settings = self.config.cluster
        if settings.executor == "here":
            resources = Resources.here(settings.use_gpu is not False)
            refusals.check_tasks(resources, settings)
            return resources
        try:
            from . import _cluster  # Ray need not be there for the executor of this process
        except ImportError as error:
            raise ClusterError(
                f"Ray cannot be used here ({error}): install ray[data,train], or set "
                "cluster.executor=here."
            ) from error
        resources = _cluster.connect(settings)
        say(f"cluster: {resources.nodes} node(s), {resources.cpus:g} CPUs, {resources.gpus:g} GPUs")
        trainings = draft_plan(self.config) if self._does["trains"] else None
        refusals.check(resources, settings, mines=self._does["mines"], trainings=trainings)
        return resources

    @cached_property
    def executor(self) -> Executor:
        """Where stages run."""
        settings = self.config.cluster
        if settings.executor == "here":
            return Here(bool(self.resources.gpus), self._check_time)
        from ._cluster import OnRay

        return OnRay(settings, lambda: self.resources)

    @at_stage("ingest")
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
            if done.held:
                note += f", {done.held} of them from earlier parts of the store"
            if done.deferred:
                note += f"; the next job asks for {done.deferred} of the rejected again"
            self.seconds["ingest"] = round(time.monotonic() - started, 3)
            listing.remember(snapshot, self.seconds["ingest"])
        else:
            snapshot, self.seconds["ingest"] = known
            note = ", nothing changed in the source"
            listing.lead(snapshot)
        images = sum(part.live for part in snapshot.parts)
        say(f"ingest: {images} images, {snapshot.rejected} rejected{note}")
        notes = [*listing.notes(), *mask_notes(self.store, snapshot)]
        if source is None and snapshot.of([TRAIN]):
            notes += tag_notes(self.store, snapshot, self.config.corpus.min_tag_support)
        for told in notes:
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
        with Progress("listing", len(shards), unit="shards") as progress:
            self.executor.items(lister, shards, lambda _: progress.advance(1), "listing")

    def _pack(self, listing: Listing) -> Ingested:
        _ = self.resources  # a cluster that is refused is refused before anything is written

        def map_items(
            function: Callable[[Any], Any], items: Sequence[Any], each: Take
        ) -> list[Any]:
            results: list[Any] = []

            def take(result: Any) -> None:
                results.append(result)
                each(result)

            self.executor.items(function, items, take, "ingest")
            return results

        packer = replace(listing.packer, tables=self._image_tables())
        with Progress("ingest", len(listing.rows)) as progress:
            return ingest(replace(listing, packer=packer), map_items, progress.advance)

    def _image_tables(self) -> tuple[str, ...]:
        """Tables of this config that depend on images alone, whatever their tags mean."""
        if not self.store.list(LINEAGES):  # nothing is there that could move
            return ()
        try:
            stages = [step.stage for step in draft_plan(self.config)]
        except DcspError:  # of a stage that this job need not have: who computes it will tell
            return ()
        tables = (stage for stage in stages if isinstance(stage, TableStage))
        return tuple({t.key.directory: None for t in tables if t.is_of_images_alone})

    def plan(self) -> Plan:
        """Ingest and lay out the stages.

        Raises:
            ConfigError: Too much of the run before would be made anew.
        """
        plan = plan_run(self.store, self.config, self.ingest())
        check_recompute(self.store, plan)
        if plan.learned_from:
            share = new_share(plan.snapshot, plan.learned)
            say(f"networks: those of the last run stay, {share:.1%} of the training images are new")
        return plan

    def run(self, plan: Plan, step: Step[Stage]) -> None:
        """Do one step, or say that it is done."""
        if self.lease:
            self.lease.check()
        work_on(self.config.name, plan.run_id)
        self.computed[step.title] = not plan.is_done(self.store, step)
        with at_stage(step.title):
            if self.computed[step.title]:
                self._compute(plan, step)
            else:
                self._complement(step)
                say(f"{step.title}: done before ({step.stage.key.directory})")
        self.seconds[step.title] = step_record(self.store, plan, step)["seconds"]

    def _complement(self, step: Step[Stage]) -> None:
        """Write again what lies beside a finished output, where it was removed."""
        begin_stage(self.store, step.stage.key)
        if step.prepare:
            step.prepare(self.store)

    def provide(self, plan: Plan, step: Step[Stage], others: Mapping[Role, str]) -> None:
        """Make sure that all is there that a step has to read, and do what no other job is for.

        Args:
            plan: The run.
            step: Of it.
            others: Roles whose steps are another job's → that job, ``{title}`` and ``{phase}``
                being those of the step.

        Raises:
            StoreError: A step of another job is not done; the message names the job.
        """
        if plan.is_done(self.store, step):
            return
        for missing in list(self._missing(plan, step, others)):  # all is looked at before any work
            self.run(plan, missing)

    def _missing(
        self, plan: Plan, step: Step[Stage], others: Mapping[Role, str]
    ) -> Iterator[Step[Stage]]:
        """What a step reads that is not there, in order, and what that reads."""
        for read in plan.reads(step):
            if read.role in others:
                job = others[read.role].format(title=read.title, phase=read.phase)
                self.require(plan, [read], job)
            elif not plan.is_done(self.store, read):
                yield from self._missing(plan, read, others)
                yield read

    def require(self, plan: Plan, steps: Sequence[Step[Stage]], job: str) -> None:
        """Make sure that steps are done that a job needs and does not do itself.

        Raises:
            StoreError: One is not; the message names the job that does it.
        """
        for step in steps:
            if not plan.is_done(self.store, step):
                raise StoreError(
                    f"The stage {step.title} of this config is not done in {self.store.url}: "
                    f"run {job} with the same config first."
                )

    def _compute(self, plan: Plan, step: Step[Stage]) -> None:
        resources = self.resources  # joined, or refused, before anything is written
        started = time.monotonic()
        if step.prepare:
            prepare = step.prepare
            say(f"{step.title}: {self._within(step.title, lambda: prepare(self.store))}")
        if not step.stage.learns:
            refusals.check_parts(resources, largest_part(self.store, plan.snapshot))
        end = step.stage.compute(self.executor, self.store, plan.parts(step), step.title)
        seconds = time.monotonic() - started
        record = self._within(step.title, lambda: end(seconds))
        if rows := record.get("rows"):
            counts = ", ".join(f"{count} {status}" for status, count in rows.items())
            say(f"{step.title}: {counts} rows in {duration(seconds)}")

    @at_stage("publish")
    def finish(self, plan: Plan, tell: Callable[[Plan], None] = lambda _: None) -> None:
        """Evaluate, write the report, and publish the run if its config and its gates let it.

        Args:
            plan: The run.
            tell: Called once the figures and the report are there, published or not.

        Raises:
            HeldBackError: It fails a gate, or was withdrawn.
        """
        self.record(plan)
        self._compare_again(plan)
        tell(plan)
        job, confirm = (self.lease.job, self.lease.confirm) if self.lease else ("job", lambda: None)
        settle(self.store, plan, job, confirm)
        tell_published(self.store)

    @at_stage("evaluation")
    def record(self, plan: Plan) -> None:
        """Evaluate and write the report, where that was not done before."""
        work_on(self.config.name, plan.run_id)
        done = all(self.store.exists(f(plan.run_id)) for f in (metrics_file, run_file))
        if not done:
            save_run(self.store, plan, self.computed)
            self.evaluate(plan)
        tell_trust(self.store.read_json(metrics_file(plan.run_id)))
        if not (done and self.store.exists(report_file(plan.run_id))):
            self._within("report", lambda: write_report(self.store, plan))

    def _check_time(self, title: str) -> None:
        """End a stage of this process when the job takes too long."""
        settings = self.config.cluster
        Patience(title, settings.stall_minutes, settings.total_minutes).check()

    def _within(self, title: str, work: Callable[[], Result]) -> Result:
        """Do what this process does alone, within the limits of the job."""
        settings = self.config.cluster
        return within(Patience(title, settings.stall_minutes, settings.total_minutes), work)

    def evaluate(self, plan: Plan) -> None:
        """Compare every table with the ground truth and write ``metrics.json``."""
        started = time.monotonic()
        qualities, trust = self._measuring.figures(plan)
        changed = self._measuring.against(plan)
        self.seconds["evaluation"] = round(time.monotonic() - started, 3)
        metrics = build_metrics(plan, qualities, self.seconds, table_rows(self.store, plan))
        metrics |= self._within("evaluation", lambda: selftag_metrics(self.store, plan))
        metrics |= {"trust": trust, "against": changed}
        self.store.write_json(metrics_file(plan.run_id), metrics)

    def _compare_again(self, plan: Plan) -> None:
        """Tell what changed against the run that is published now, where another one was then."""
        before = current_run(self.store)
        if before in (None, plan.run_id) or not plan.labelled:
            return
        metrics = self.store.read_json(metrics_file(plan.run_id))
        if (metrics.get("against") or {}).get("run") != before:
            metrics["against"] = self._measuring.against(plan)
            self.store.write_json(metrics_file(plan.run_id), metrics)
            self._within("report", lambda: write_report(self.store, plan))

    @property
    def _measuring(self) -> Measuring:
        return Measuring(self.store, self.executor, self._within)
