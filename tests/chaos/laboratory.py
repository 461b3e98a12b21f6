"""One kill after another, each in a store that holds what comes before its stage."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dcsp.inspection.verify import verify_store
from dcsp.store.store import Store
from tests.chaos.ledger import Ledger, of_files, of_metrics, of_table, of_training
from tests.chaos.matrix import DRIVERS, EVALUATION, TOLD, TRAININGS, UPKEEP, Case
from tests.chaos.nodes import Nodes
from tests.jobs.running import PATIENCE, Run, call, resumable_checkpoints, start, wait_until

CORPUS = ("corpus/parts", "truth")
ATTEMPTS = 4
ERASED = "train_000003"
"""Image that is erased."""


@dataclass(frozen=True)
class Outcome:
    """What a kill left in the end, and what it took."""

    case: Case
    ledger: Ledger
    submissions: int
    """One where the job went on by itself."""
    seconds: float


@dataclass(frozen=True)
class Laboratory:
    """Where kills are made.

    Attributes:
        undisturbed: A finished run of the whole chain.
        nodes: The cluster that all jobs join.
        folder: Where stores and logs may be left.
        settings: Overrides of the undisturbed run's config.
        held: Command of ``dcsp`` → seconds for which it holds the lease, undisturbed.
    """

    undisturbed: Run
    nodes: Nodes
    folder: Path
    settings: tuple[str, ...] = ()
    held: dict[str, float] = field(default_factory=dict)

    def run(self, case: Case) -> Outcome:
        """Submit, kill, submit again where the job has ended, and count what is there.

        Raises:
            RuntimeError: No kill could be made while the stage was at work, or the job failed.
        """
        if case.stage in UPKEEP:
            self._done(case.stage)  # before anything is timed
        for attempt in range(ATTEMPTS):
            outcome = self._attempt(case, early=attempt > 0)
            if outcome:
                return outcome
        raise RuntimeError(f"{case} ended {ATTEMPTS} times before its kill")

    def _attempt(self, case: Case, early: bool) -> Outcome | None:
        """One submission with its kill; nothing when the job ended before."""
        self.nodes.heal()
        began = time.monotonic()
        name = f"{case.stage}-{case.victim}-{case.seed}"
        store, log = self.folder / name, self.folder / f"{name}.log"
        shutil.rmtree(store, ignore_errors=True)
        self._begin(store, case.stage)
        job, arguments = self._submission(store, case.stage)
        process = start(job, *arguments, environment=self.nodes.environment, log=log)
        try:
            killed = self._kill_in_time(case, store, process, early)
            returned = process.wait(PATIENCE)
        finally:
            process.kill()
        if not killed:
            if returned != 0:
                raise RuntimeError(f"{case} failed before its kill:\n{log.read_text()}")
            return None
        if case.victim == TOLD and (returned != 143 or (store / "LEASE").exists()):
            raise RuntimeError(f"{case} ended with {returned} and its lease:\n{log.read_text()}")
        submissions = 1
        if returned != 0:
            submissions += 1
            again = call(job, *arguments, environment=self.nodes.environment)
            if again.returncode != 0:
                raise RuntimeError(f"{case}: {again.stderr}\nbefore:\n{log.read_text()}")
        if case.stage in UPKEEP and (problems := verify_store(Store(store)).problems):
            raise RuntimeError(f"{case} left {problems}")
        ledger = self._count(store, case.stage)
        if ledger.clean:
            shutil.rmtree(store)
        return Outcome(case, ledger, submissions, time.monotonic() - began)

    def _kill_in_time(
        self, case: Case, store: Path, process: subprocess.Popen[str], early: bool
    ) -> bool:
        """Kill at the case's moment, or at the first one; whether the job was still at work."""
        pieces, delay = case.moment(self._pieces(case.stage))
        if case.stage in UPKEEP:
            delay = case.random.uniform(0, self._done(case.stage)[1])
        end = time.monotonic() + PATIENCE
        while not self._reached(store, case, 0 if early else pieces):
            if process.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(0.005)
        time.sleep(0 if early else delay)
        has_ended = case.stage in UPKEEP and not (store / "LEASE").exists()
        if has_ended or process.poll() is not None:
            return False
        if case.victim in DRIVERS:
            process.terminate() if case.victim == TOLD else process.kill()
            return True
        kill: Callable[..., bool] = self.nodes.lose if case.victim == "node" else self.nodes.kill
        return kill(case.workers, case.random)

    def _begin(self, store: Path, stage: str) -> None:
        """A store with all that the stage needs, as a job leaves it that ends before the stage."""
        if stage in UPKEEP:
            shutil.copytree(self.two_runs, store)
            return
        store.mkdir(parents=True)
        if stage == "ingest":
            return
        directories = ["corpus", "truth"]
        plan = self.undisturbed.plan(*self.settings)
        for step in plan:
            if step.title == stage:
                break
            directories.append(step.stage.key.directory)
        for name in directories:
            shutil.copytree(self.undisturbed.store / name, store / name)

    def _submission(self, store: Path, stage: str) -> tuple[str, list[str]]:
        if stage in UPKEEP:
            does = ["--keep=1", "--days=0", "--delete"] if stage == "gc" else [ERASED]
            return stage, [str(store), *does]
        settings = ["--config", str(self.undisturbed.config_file), f"store={store}", *self.settings]
        settings += [*self.nodes.settings, "cluster.stall_minutes=4"]
        if stage == "ingest":
            return "ingest.py", settings
        settings += [f"{name}.checkpoint_every=1" for name in ("fcan", "joint")]
        return "relabel.py", settings if stage == EVALUATION else [*settings, "--until", stage]

    def _reached(self, store: Path, case: Case, pieces: int) -> bool:
        """Whether so many pieces of the stage are done and somebody works on it."""
        if case.stage in UPKEEP:
            return (store / "LEASE").exists()
        if case.stage not in TRAININGS:
            made = len(list((store / self._tables(case.stage)[0]).glob("*.parquet")))
            return made >= pieces and self.nodes.runs(case.workers)
        if pieces:
            return resumable_checkpoints(store, self._tables(case.stage)[0].name)
        return self.nodes.runs(case.workers)

    def _pieces(self, stage: str) -> int:
        if stage in UPKEEP:
            return 0
        if stage in TRAININGS:
            return 2  # before its first checkpoint, or after it
        return len(list((self.undisturbed.store / self._tables(stage)[0]).glob("*.parquet")))

    def _tables(self, stage: str) -> tuple[Path, ...]:
        """Directories that a stage fills, below a store."""
        if stage == "ingest":
            return tuple(map(Path, CORPUS))
        if stage == EVALUATION:
            return (Path("runs", self.undisturbed.run_id),)
        return (Path(self.undisturbed.plan(*self.settings).step(stage).stage.key.directory),)

    @cached_property
    def two_runs(self) -> Path:
        """The undisturbed store after a second run with other networks, which is published."""
        store = self.folder / "two-runs"
        shutil.copytree(self.undisturbed.store, store)
        job, arguments = self._submission(store, EVALUATION)
        done = call(job, *arguments, "joint.steps=13", environment=self.nodes.environment)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return store

    def _done(self, stage: str) -> tuple[Path, float]:
        """What an undisturbed command leaves, and for how many seconds it holds the lease."""
        store, log = self.folder / f"good-{stage}", self.folder / f"good-{stage}.log"
        if stage not in self.held:
            self._begin(store, stage)
            job, arguments = self._submission(store, stage)
            process = start(job, *arguments, environment=self.nodes.environment, log=log)
            wait_until(
                lambda: process.poll() is not None or (store / "LEASE").exists(), "its lease"
            )
            began = time.monotonic()
            wait_until(lambda: not (store / "LEASE").exists(), "the end of its lease")
            self.held[stage] = time.monotonic() - began
            if process.wait(PATIENCE) != 0:
                raise RuntimeError(log.read_text())
        return store, self.held[stage]

    def _count(self, store: Path, stage: str) -> Ledger:
        if stage in UPKEEP:
            return of_files(self._done(stage)[0], store)
        counts = {EVALUATION: of_metrics, **dict.fromkeys(TRAININGS, of_training)}
        count = counts.get(stage, of_table)
        ledgers = [count(self.undisturbed.store / t, store / t) for t in self._tables(stage)]
        return sum(ledgers, start=Ledger())
