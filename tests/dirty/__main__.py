"""``python -m tests.dirty [--cases N | --case N]``: what becomes of dirty input, in two tables."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.dirty.fuzz import run_case, run_cases, tally
from tests.dirty.kinds import KINDS
from tests.dirty.planted import outcomes, plant


def main() -> int:
    """Print both tables; 1 where anything crashed, hung, wrote outside or became another row."""
    parser = argparse.ArgumentParser(prog="python -m tests.dirty", description=__doc__)
    parser.add_argument("--cases", type=int, default=16_000, help="fuzzed inputs (16000)")
    parser.add_argument("--case", type=int, help="run this one here, with its traceback")
    options = parser.parse_args()
    if options.case is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(*run_case(options.case, Path(folder)), sep=": ")
        return 0
    wrong = _planted()
    counts, failures = tally(run_cases(range(options.cases)))
    _print(counts)
    print(
        f"\n{sum(counts.values())} fuzzed inputs, {len(failures)} crashes, hangs or writes outside"
    )
    print("\n".join(failures))
    return 1 if failures or wrong else 0


def _planted() -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "photos")
        root.mkdir()
        expected, found = plant(root), outcomes(root)
    print("planted fault                 became")
    wrong = 0
    for name in sorted(expected | found):
        became, wanted = sorted(found.get(name, ())), sorted(expected.get(name, ()))
        note = "" if became == wanted else f"   WRONG: {', '.join(wanted) or 'no row'} expected"
        wrong += bool(note)
        print(f"{name!r:29} {', '.join(became) or 'nothing'}{note}")
    return wrong


def _print(counts: Counter[tuple[str, str]]) -> None:
    print("\nfuzzed              inputs  became")
    for kind in KINDS:
        of_kind = {what: count for (name, what), count in counts.items() if name == kind.name}
        told = sorted(of_kind.items(), key=lambda item: -item[1])
        listed = ", ".join(f"{count} {what}" for what, count in told)
        print(f"{kind.name:19} {sum(of_kind.values()):6}  {listed}")


if __name__ == "__main__":
    sys.exit(main())
