"""What a run would do, ask of the cluster, take and cost: known before anything is started.

    python jobs/plan.py --config FILE [--no-probe] [--snapshot FINGERPRINT]
                        [--price-per-cpu-hour X] [--price-per-gpu-hour X] [key=value …]

Also ``dcsp plan``. Reads the corpus manifest and the cluster, and runs the stages that are not done
on 16 images; nothing is written to the store. A run that would wait for ever is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from any working directory

from dcsp.capacity import refusals
from dcsp.capacity.forecast import Forecast, Price, check_memory, cluster_line, forecast, table
from dcsp.capacity.pace import INGEST, earlier_paces
from dcsp.capacity.probe import Probe, ProbeResult, Worker
from dcsp.capacity.resources import TASK_CPUS, Resources
from dcsp.capacity.sample import ListedSample, Sample, StoredSample
from dcsp.capacity.workload import draft_snapshot, largest_part, work_of
from dcsp.config import ClusterSettings, RunConfig
from dcsp.corpus.listing import Listing
from dcsp.errors import ConfigError, CorpusError
from dcsp.inspection.recompute import check_recompute
from dcsp.methods.registry import method_of
from dcsp.progress import say
from dcsp.run.overview import stages_text
from dcsp.run.plan import Plan
from dcsp.run.retraining import plan_run
from dcsp.store.store import Store
from dcsp.tables.snapshot import Snapshot
from dcsp.text import duration
from jobs._chain import Chain
from jobs._main import config_parser, read_config, run_job


def main(arguments: Sequence[str]) -> None:
    """Print the plan that the command line asks for."""
    parser = config_parser(str(__doc__).split("\n", 1)[0])
    parser.add_argument(
        "--no-probe", action="store_true", help="by what earlier runs in the store took, if any"
    )
    parser.add_argument(
        "--snapshot", metavar="FP", help="of the corpus; left out: what the source lists now"
    )
    for unit in ("cpu", "gpu"):
        parser.add_argument(
            f"--price-per-{unit}-hour", type=float, metavar="X", help=f"of each {unit.upper()}"
        )
    parsed = parser.parse_intermixed_args(arguments)
    prices = parsed.price_per_cpu_hour, parsed.price_per_gpu_hour
    price = Price(prices[0] or 0.0, prices[1] or 0.0) if any(prices) else None
    config = read_config(parsed)
    try:
        planning = Planning(config, parsed.snapshot)
    except CorpusError as error:  # no source yet: what there is to say is still said
        print(f"{stages_text(Store(config.store), config, None)}\nnote: {error}")
        return
    planning.show(probes=not parsed.no_probe, price=price)


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

    def show(self, *, probes: bool, price: Price | None) -> None:
        """Print stages, cluster and forecast.

        Raises:
            ClusterError: The run would wait for ever on this cluster, or not fit its memory.
        """
        print(stages_text(self.store, self.config, self.snapshot), flush=True)
        lines, probed = self.forecast(probes=probes)
        print(f"\n{cluster_line(self.resources)}")
        if probed:
            print(f"probe: {probed.images} images in one process, {duration(probed.seconds)}")
        print(f"\n{table(lines, self.resources, price)}")
        if probed and probed.trouble:
            print(f"note: the probe ended early: {probed.trouble}")
        self._note_recompute()
        check_memory(lines, self.resources)

    def _note_recompute(self) -> None:
        """Say that the run itself would be refused; its corpus must be known for that."""
        if self.snapshot is not None:
            try:
                check_recompute(self.store, self.plan())
            except ConfigError as error:
                print(f"note: {error}")

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
        from jobs import _cluster

        (probed,) = _cluster.map_items(
            probe,
            [sample],
            settings,
            num_cpus=max(TASK_CPUS, min(threads, resources.widest)),
            num_gpus=1.0 if resources.gpus else 0.0,
            title="probe",
        )
        return probed


if __name__ == "__main__":
    run_job(main)
