"""``python -m tests.chaos``: the kill matrix and a table of what was left; 1 if not all was."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dcsp.text import in_columns
from tests.chaos.clusters import LibraryNodes, StartedNodes
from tests.chaos.laboratory import Laboratory, Outcome
from tests.chaos.ledger import Ledger
from tests.chaos.matrix import STAGES, UPKEEP, VICTIMS, Case, cases
from tests.chaos.nodes import Nodes, NoNodes
from tests.jobs.running import Run, call
from tests.jobs.tiny import write_config, write_detector

SETTINGS = (
    "corpus.scenes={train: 36, val: 12, height: 64, width: 80}",
    "cues.adapt.rounds=0",
    "joint.steps=12",
    "cluster.actors=3",
)
CLUSTERS: tuple[type[Nodes], ...] = (LibraryNodes, StartedNodes, NoNodes)
"""Even seeds run in the first, odd ones in the second, commands of ``dcsp`` in the third."""
HEAD = ("stage", "victim", "kills", "expected", "ok", "lost", "duplicated", "mixed", "seconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix; its table goes to the terminal."""
    options = _parser().parse_args(arguments)
    todo = cases(options.stages, options.victims, options.seeds)
    outcomes: list[Outcome] = []
    undisturbed: Run | None = None
    with tempfile.TemporaryDirectory(prefix="dcsp-chaos-") as name:
        for turn, kind in enumerate(CLUSTERS):
            chosen = [case for case in todo if turn == _turn(case)]
            if not chosen:
                continue
            with kind() as nodes:
                print(f"{len(chosen)} kills in {kind.__name__} at {nodes.address}", flush=True)
                undisturbed = undisturbed or _undisturbed(Path(name), nodes)
                laboratory = Laboratory(undisturbed, nodes, Path(name), SETTINGS)
                outcomes += [_told(laboratory.run(case)) for case in chosen]
    print(f"\n{table(outcomes)}")
    return 0 if all(outcome.ledger.clean for outcome in outcomes) else 1


def _turn(case: Case) -> int:
    """Which of the clusters a kill is made in."""
    return 2 if case.stage in UPKEEP else case.seed % 2


def _told(outcome: Outcome) -> Outcome:
    case = outcome.case
    print(
        f"{case.stage}, {case.victim} killed (seed {case.seed}): {outcome.ledger}, "
        f"{outcome.submissions} submissions, {outcome.seconds:.0f} s",
        flush=True,
    )
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each stage and victim, and their sum."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.case.stage, outcome.case.victim), []).append(outcome)
    rows = [_row(*names, found) for names, found in groups.items()]
    rows.append(_row("all", "", outcomes))
    return "\n".join(in_columns([HEAD, *rows], f"<<{'>' * (len(HEAD) - 2)}"))


def _row(stage: str, victim: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    total = sum((outcome.ledger for outcome in outcomes), start=Ledger())
    seconds = round(sum(outcome.seconds for outcome in outcomes))
    counts = (total.expected, total.ok, total.lost, total.duplicated, total.mixed)
    return (stage, victim, *map(str, (len(outcomes), *counts, seconds)))


def _undisturbed(folder: Path, nodes: Nodes) -> Run:
    """The chain without a kill, on the same cluster."""
    config = write_config(folder / "tiny.yaml", write_detector(folder / "brightness.onnx"))
    store = folder / "undisturbed"
    settings = [*SETTINGS, *nodes.settings, f"store={store}"]
    done = call("relabel.py", "--config", config, *settings, environment=nodes.environment)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return Run(store, config, done.stdout, done.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="kills of a kind")
    return parser


if __name__ == "__main__":
    sys.exit(main())
