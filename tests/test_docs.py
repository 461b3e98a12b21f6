"""Docs lead somewhere: links, names to look for, quoted lines; and so does "method 1.5" in code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.source_tree import parsed

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
MODULES = sorted([*ROOT.glob("dcsp/**/*.py"), *ROOT.glob("jobs/**/*.py")])
NUMBER = r"\d(?:\.\d)?"
REFERENCE = re.compile(rf"\bmethod ({NUMBER}(?:(?:, |–){NUMBER})*)")
LOOK_FOR = re.compile(r"\| `((?:dcsp|jobs|tests)/[\w/]+\.py)` \|([^|\n]*)\|")
"""In a row of a table: a file, and what to look for in it."""
QUOTED = re.compile(r"^```python\n# (tests/\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""A block of lines that are quoted from a file."""
SECTION = re.compile(rf"^##+ ({NUMBER}) ", re.MULTILINE)


def by_path(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=by_path)
def test_links_to_files_and_named_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:dcsp|jobs|tests|docs)/[\w/.-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=by_path)
def test_files_hold_the_names_to_look_for(page: Path) -> None:
    for file, cell in LOOK_FOR.findall(page.read_text(encoding="utf-8")):
        held = set(names_in(parsed(ROOT / file).body))
        wanted = set(re.findall(r"`([A-Za-z_][\w.]*)`", cell))
        assert wanted <= held, f"{file} lacks {', '.join(sorted(wanted - held))}"


def names_in(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Functions, classes and what they hold (``Class.method``), and whatever is set by name."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names_in(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


def test_quoted_lines_are_in_their_file() -> None:
    blocks = QUOTED.findall((ROOT / "docs/methods.md").read_text(encoding="utf-8"))
    assert len(blocks) == 5
    for file, block in blocks:
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        assert [line for line in block.splitlines() if line not in ("", "…", *lines)] == [], file


def test_sections_of_the_method_that_code_names_are_there() -> None:
    sections = set(SECTION.findall((ROOT / "docs/method.md").read_text(encoding="utf-8")))
    for path in MODULES:
        for named in REFERENCE.findall(path.read_text(encoding="utf-8")):
            numbers = set(re.split(", |–", named))
            assert numbers <= sections, f"{by_path(path)}: method {named}"
