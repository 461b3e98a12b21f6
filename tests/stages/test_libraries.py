"""Each part tells which libraries made it, and a mixture can be told from a change of nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from dcsp.corpus.held import Piece, compose
from dcsp.stages.libraries import as_told, makers, marked, mixture
from dcsp.stages.parts import PartSummary, write_part
from dcsp.store.store import Store
from dcsp.tables.layout import part_file
from dcsp.tables.schemas import HEAD, STATUS
from dcsp.tables.snapshot import Part

SCHEMA = pa.schema([*HEAD, *STATUS])
ROWS = pa.Table.from_pylist([{"image_id": "a", "status": "ok"}], SCHEMA)


def test_a_part_tells_the_versions_that_made_it_and_holds_what_it_held(tmp_path: Path) -> None:
    store = Store(tmp_path)
    done = write_part(store, "saliency/f", SCHEMA, Part("p", 1), ROWS, ("numpy", "no-such-thing"))
    read = store.read_table(part_file("saliency/f", "p"))
    assert isinstance(done, PartSummary) and read.equals(ROWS)
    assert makers(read) == as_told(["numpy"]) and makers(read)[0].startswith("numpy ")
    assert makers(read.select(["status"])) == makers(read)


@pytest.mark.parametrize("told", [["torch 2.6"], [], ["numpy 2.1", "torch 2.7"]])
def test_what_is_composed_of_parts_tells_of_all_that_made_them(
    tmp_path: Path, told: list[str]
) -> None:
    store = Store(tmp_path)
    for name, made_by in (("p", ["torch 2.6"]), ("q", told)):
        store.write_table(part_file("cues/f", name), marked(ROWS, made_by))
    compose(store, ["cues/f"], "both", [Piece("p", (0,)), Piece("q", (0,))])
    both = store.read_table(part_file("cues/f", "both"))
    assert both.num_rows == 2 and makers(both) == sorted({"torch 2.6", *told})


MIXTURES: list[tuple[list[list[str]], str]] = [
    ([], ""),
    ([[], []], ""),
    ([["torch 2.6"], ["torch 2.6"]], ""),
    ([["torch 2.6"], []], ""),  # of an earlier version, of which nothing is known
    ([["torch 2.6"], ["torch 2.7"], ["torch 2.7"]], "2 parts by torch 2.7, 1 by torch 2.6"),
    (
        [["a 1", "b 1"], ["a 2", "b 2"]],
        "1 part by a 1, 1 by a 2; 1 part by b 1, 1 by b 2",
    ),
    (
        [["torch 2.6"], ["torch 2.6", "torch 2.7"]],
        "1 part by torch 2.6, 1 by torch 2.6 and torch 2.7",
    ),
]


@pytest.mark.parametrize(("outputs", "line"), MIXTURES)
def test_a_mixture_is_told_in_one_line(outputs: list[list[str]], line: str) -> None:
    assert mixture(outputs, "part") == line
