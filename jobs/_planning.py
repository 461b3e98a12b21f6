"""What ``dcsp plan`` tells: stages, cluster and forecast of one config."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dcsp.capacity import refusals
from dcsp.capacity.forecast import Forecast, Price, check_memory, cluster_line, forecast, table
from dcsp.capacity.pace import INGEST, earlier_paces
from dcsp.capacity.probe import Probe, ProbeResult, Worker
from dcsp.capacity.resources import TASK_CPUS, Resources
from dcsp.capacity.sample import ListedSample, Sample, StoredSample
from dcsp.capacity.workload import draft_snapshot, largest_part, work_of
from dcsp.cli.base import put_json
from dcsp.config import ClusterSettings, RunConfig
from dcsp.corpus.listing import Listing
from dcsp.errors import ConfigError, CorpusError
from dcsp.inspection.recompute import check_recompute
from dcsp.methods.registry import method_of
from dcsp.progress import say
from dcsp.run.overview import stage_rows, stages_text
from dcsp.run.plan import Plan
from dcsp.run.retraining import plan_run
from dcsp.store.store import Store
from dcsp.tables.snapshot import Snapshot
from dcsp.text import duration

from ._chain import Chain


def show_plan(
    config: RunConfig, snapshot: str | None, price: Price | None, *, probes: bool, as_json: bool
) -> None:
    """Print the plan of a run; without a source, what there is to say without it.

    Args:
        config: Of the run.
        snapshot: Fingerprint of the snapshot; None: that of what the source lists now.
        price: Of the cluster, where it is known.
        probes: Whether what is not done is tried on a few images.
        as_json: Print one document of JSON.
    """
    try:
        planning = Planning(config, snapshot)
    except CorpusError as error:
        if as_json:
            put_json(_document(Store(config.store), config, None) | {"notes": [str(error)]})
        else:
            print(f"{stages_text(Store(config.store), config, None)}\nnote: {error}")
        return
    planning.show(probes=probes, price=price, as_json=as_json)


def _document(store: Store, config: RunConfig, snapshot: Snapshot | None) -> dict[str, Any]:
    header, *rows = stage_rows(store, config, snapshot)
    return {"stages": [dict(zip(header, row, strict=True)) for row in rows]}


class Planning:
    """Looks at corpus, store and cluster of one config.

    Args:
        config: Of the run.
        snapshot: Fingerprint of the snapshot; None: that of what the source lists now.

    Raises:
        CorpusError: The source is not there.
    """

    def __init__(self, config: RunConfig, snapshot: str | None = None) -> None:
        self.config = config
        self.chain = Chain(config)
        self.store = self.chain.store
        self.listing: Listing | None = None
        self.snapshot: Snapshot | None = None
        if snapshot:
            self.snapshot = Snapshot.load(self.store, snapshot)
        else:
            self.listing = self.chain.list_source()
            known = self.listing.known()
            self.snapshot = known[0] if known else None

    @property
    def settings(self) -> ClusterSettings:
        """Those that work is spread by: this process alone has one worker of one thread.

        It has all threads in truth, so that its times are upper bounds.
        """
        settings = self.config.cluster
        if settings.executor == "ray":
            return settings
        alone = {"actors": 1, "train_workers": 1, "train_cpus": 1.0}
        return settings.model_copy(update=alone)

    @property
    def resources(self) -> Resources:
        """Of the cluster, which has been found fit."""
        return self.chain.resources

    def plan(self) -> Plan:
        """The stages over the snapshot, or over what the listing would become."""
        settings = self.config.corpus
        if self.snapshot is not None:
            return plan_run(self.store, self.config, self.snapshot)
        assert self.listing is not None
        draft = draft_snapshot(self.listing, settings.learned)
        return plan_run(self.store, self.config, draft)

    def show(self, *, probes: bool, price: Price | None, as_json: bool = False) -> None:
        """Print stages, cluster and forecast.

        Raises:
            ClusterError: The run would wait for ever on this cluster, or not fit its memory.
        """
        if not as_json:
            print(stages_text(self.store, self.config, self.snapshot), flush=True)
        lines, probed = self.forecast(probes=probes)
        notes = self._notes(probed)
        if as_json:
            told = [asdict(line) | {"cost": self._cost(line, price)} for line in lines]
            document = _document(self.store, self.config, self.snapshot)
            put_json(document | {"cluster": self.resources, "forecast": told, "notes": notes})
        else:
            print(f"\n{cluster_line(self.resources)}")
            if probed:
                print(f"probe: {probed.images} images in one process, {duration(probed.seconds)}")
            print(f"\n{table(lines, self.resources, price)}")
            for note in notes:
                print(f"note: {note}")
        check_memory(lines, self.resources)

    def _cost(self, line: Forecast, price: Price | None) -> float | None:
        if price is None or line.seconds is None:
            return None
        return price.of(self.resources, line.seconds)

    def _notes(self, probed: ProbeResult | None) -> list[str]:
        """What else is to be said, such as that the run itself would be refused."""
        notes = []
        if probed and probed.trouble:
            notes.append(f"the probe ended early: {probed.trouble}")
        if self.snapshot is not None:  # the corpus must be known for that
            try:
                check_recompute(self.store, self.plan())
            except ConfigError as error:
                notes.append(str(error))
        return notes

    def forecast(self, *, probes: bool) -> tuple[list[Forecast], ProbeResult | None]:
        """Every stage, and what the probe found where it was wanted and something is left.

        Raises:
            ClusterError: A part of the corpus does not fit the cluster.
        """
        plan = self.plan()
        paces = earlier_paces(self.store, plan)
        left = frozenset(work.title for work in work_of(self.store, plan, paces) if work.rows_left)
        if self.snapshot is not None and left:
            refusals.check_parts(self.resources, largest_part(self.store, self.snapshot))
        probed = self.probe(left) if probes and left else None
        if probed:
            paces |= probed.paces
        works = work_of(self.store, plan, paces)
        return forecast(works, paces, self.resources, self.settings), probed

    def probe(self, wanted: frozenset[str]) -> ProbeResult:
        """Run the stages on a few images, as one task where an actor or a worker would be."""
        settings, resources = self.settings, self.resources
        sample: Sample
        if self.snapshot is not None:
            sample = StoredSample.of(self.store, self.snapshot)
        else:
            assert self.listing is not None
            sample = ListedSample.of(self.listing, self.config.corpus.part_rows)
        threads = resources.training_cpus(settings)
        device = "cuda" if resources.gpus else "cpu"
        worker = Worker(device, threads, resources.training_workers(settings))
        say(f"probe: {', '.join(sorted(wanted - {INGEST}))}")
        probe = Probe(self.config, wanted, worker, method_of(self.config))
        if settings.executor == "here":
            return probe(sample)
        from . import _cluster

        (probed,) = _cluster.map_items(
            probe,
            [sample],
            settings,
            num_cpus=max(TASK_CPUS, min(threads, resources.widest)),
            num_gpus=1.0 if resources.gpus else 0.0,
            title="probe",
        )
        return probed
