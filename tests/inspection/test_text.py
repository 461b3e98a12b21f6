"""What the command says of runs, without a store."""

from __future__ import annotations

from typing import Any

from dcsp.inspection.inventory import Output, Run
from dcsp.inspection.text import difference_text, run_differences, section, store_text


def run(name: str, metrics: dict[str, Any] | None = None, **config: Any) -> Run:
    return Run(name, {"created": "now", "config": config}, metrics, is_current=False)


def test_a_section_is_indented_or_says_that_there_is_nothing() -> None:
    assert section("runs", ("run", "n"), [("a", "1")], "<>") == "runs\n  run  n\n  a    1\n"
    assert section("runs", ("run", "n"), iter(()), "<>", none="the same") == "runs: the same\n"


def test_an_empty_store_is_three_lines() -> None:
    text = store_text([], [])
    assert text.split("\n\n") == ["runs: none", "tables: none", "checkpoints: none\n"]


def test_sizes_stand_below_each_other() -> None:
    sizes = {"cues/a": 512, "cues/bb": 5 * 2**30}
    found = [Output(name, {"p.parquet": n}, [], ["r"] * 3) for name, n in sizes.items()]
    rows = [line for line in store_text([], found).splitlines() if "cues" in line]
    assert [row.split()[-4:] for row in rows] == [
        ["512", "B", "3", "runs"], ["5.0", "GiB", "3", "runs"]
    ]  # fmt: skip
    assert rows[0].index(" B ") + 1 == rows[1].index("GiB ") + 2


def test_long_values_are_cut_and_numbers_compared() -> None:
    one = run("a", {"val.miou": 40.0}, root="x" * 99)
    found = run_differences(one, run("b", {"val.miou": 42.5}, root="y"), ({}, {}))
    text = difference_text(found, ("a", "b"))
    assert f"root  {'x' * 59}…  y" in text
    assert text.splitlines()[-1].split() == ["val.miou", "40.00", "42.50", "+2.50"]
