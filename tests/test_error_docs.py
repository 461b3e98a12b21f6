"""docs/errors.md names every reason and every message of the code, and none that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

import pytest

from dcsp import errors

ROOT = Path(__file__).resolve().parents[1]
DOC = ROOT / "docs/errors.md"
REJECTED = "Rejected rows"
CLASSES = {
    kind.__name__
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.DcspError)
} - {"DcspError", "ImageError"}
"""Errors that end a job; an ImageError becomes a row."""
OF_SETTINGS = ("dcsp.config.file", "dcsp.config.")
"""Modules whose every text may be part of a ConfigError: they explain what pydantic refuses."""


@dataclass
class Module:
    """A module's tree, and what its names stand for."""

    name: str
    tree: ast.Module
    constants: dict[str, str] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.tree.body:
            if isinstance(node, ast.Assign):
                self.constants |= dict(constants(node))
            elif isinstance(node, ast.ImportFrom):
                package = self.name.rpartition(".")[0] if node.level else ""
                module = resolve_name(f"{'.' * node.level}{node.module or ''}", package)
                self.imported |= {alias.asname or alias.name: module for alias in node.names}


def constants(node: ast.Assign) -> Iterator[tuple[str, str]]:
    """Names that an assignment gives to texts: ``A = "a"``, ``A, B = "a", "b"``."""
    for target in node.targets:
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts, strict=True))
        for name, value in pairs:
            text = value.value if isinstance(value, ast.Constant) else None
            if isinstance(name, ast.Name) and isinstance(text, str):
                yield name.id, text


Modules = Mapping[str, Module]


def parse(texts: Mapping[str, str]) -> Modules:
    return {name: Module(name, ast.parse(text)) for name, text in texts.items()}


@cache
def code() -> Modules:
    files = [*ROOT.glob("dcsp/**/*.py"), *ROOT.glob("jobs/**/*.py")]
    return parse(
        {
            ".".join(file.relative_to(ROOT).with_suffix("").parts): file.read_text("utf-8")
            for file in files
        }
    )


# Reasons: whatever comes to stand in a parameter or an attribute of this name.


def places(modules: Modules) -> dict[str, int]:
    """Functions and classes that take a ``reason`` → its position in a call."""
    found: dict[str, int] = {}
    derived: list[ast.ClassDef] = []
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                derived.append(node)
            owner = node.name if isinstance(node, ast.ClassDef) else ""
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.FunctionDef):
                    names = [arg.arg for arg in child.args.args if arg.arg != "self"]
                    if "reason" in names:
                        called = owner if child.name == "__init__" else child.name
                        found[called] = names.index("reason")
    for node in derived:
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in found:
                found.setdefault(node.name, found[base.id])
    return found


def reasons(modules: Modules) -> set[str]:
    """Every reason that a rejected row can have."""
    taking = places(modules)
    found: set[str] = set()
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                called = name_of(node)
                if called in taking and len(node.args) > taking[called]:
                    found |= texts_of(node.args[taking[called]], module, modules)
                for keyword in node.keywords:
                    if keyword.arg == "reason":
                        found |= texts_of(keyword.value, module, modules)
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "reason":
                default = [node.value] if node.value else []  # of a dataclass
                found.update(*(texts_of(value, module, modules) for value in default))
    return found - {""}


def texts_of(node: ast.expr, module: Module, modules: Modules) -> set[str]:
    """The texts that an expression can be; what is handed on from elsewhere is found there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        parts = [node.body, node.orelse]
    elif isinstance(node, ast.BoolOp):
        parts = node.values
    elif ast.unparse(node).endswith((".reason", "['reason']")):
        return set()
    elif isinstance(node, ast.Name):
        if node.id in module.constants:
            return {module.constants[node.id]}
        if node.id in module.imported:
            return {modules[module.imported[node.id]].constants[node.id]}
        parts = list(assigned(node.id, module))
        if not parts:
            taken = {arg.arg for arg in ast.walk(module.tree) if isinstance(arg, ast.arg)}
            assert node.id in taken, f"{module.name}:{node.lineno}: {node.id} comes from nowhere"
    else:
        raise AssertionError(f"{module.name}:{node.lineno}: cannot follow {ast.unparse(node)}")
    return {text for part in parts for text in texts_of(part, module, modules)}


def assigned(name: str, module: Module) -> Iterator[ast.expr]:
    """What a variable is given in a module, by itself or in a tuple."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                yield node.value
            elif isinstance(target, ast.Tuple):
                names = [e.id if isinstance(e, ast.Name) else "" for e in target.elts]
                if name in names:
                    for whole in tuples(node.value, module):
                        yield whole.elts[names.index(name)]


def tuples(value: ast.expr, module: Module) -> Iterator[ast.Tuple]:
    """A tuple, or those that the called function of the same module returns."""
    if isinstance(value, ast.Tuple):
        yield value
    elif isinstance(value, ast.Call):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef) and node.name == name_of(value):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return) and isinstance(inner.value, ast.Tuple):
                        yield inner.value


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


# Messages: what an error is made with, its placeholders as an ellipsis.


def template(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(template, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return "…"


def messages(modules: Modules) -> Iterator[tuple[str, str, str]]:
    """Class, place and template of every error that ends a job."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and name_of(node) in CLASSES and node.args:
                yield name_of(node), f"{module.name}:{node.lineno}", template(node.args[0])


def normal(text: str) -> str:
    """Equal for a template and for what the table quotes of it."""
    return re.sub(r"[\s…]*…[\s…]*", " … ", " ".join(text.split()).replace("…", " … ")).strip()


def occurs(fragment: str, text: str) -> bool:
    return normal(fragment).strip("… ") in normal(text)


def has_words(text: str) -> bool:
    """Whether a template says something itself and does not only pass on what another said."""
    return len(re.findall("[a-z]{2,}", text)) >= 3


# The document: sections, and in their tables what stands between backticks in the first column.


@cache
def document() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    title = ""
    for line in DOC.read_text("utf-8").splitlines():
        if line.startswith("#"):
            title = line.lstrip("# ")
            assert title not in found, title
            found[title] = []
        elif line.startswith("|"):
            found[title] += re.findall("`([^`]+)`", line.split("|")[1])
    return found


def sections() -> Iterator[tuple[str, set[str]]]:
    """Titles of tables of messages, and the classes that they are of."""
    for title in document():
        if kinds := set(title.split(", ")) & CLASSES:
            yield title, kinds


def test_every_reason_is_in_the_table() -> None:
    named = document()[REJECTED]
    assert len(named) == len(set(named))
    assert reasons(code()) - set(named) == set()


def test_the_table_names_no_other_reason() -> None:
    assert set(document()[REJECTED]) - reasons(code()) == set()


def test_every_class_of_errors_has_one_table() -> None:
    assert sorted(kind for _, kinds in sections() for kind in kinds) == sorted(CLASSES)


def _order(value: str | set[str]) -> str:
    """The same name in every process: sets have an order of their own in each."""
    return value if isinstance(value, str) else "-".join(sorted(value))


@pytest.mark.parametrize(("title", "kinds"), list(sections()), ids=_order)
def test_every_message_is_in_the_table(title: str, kinds: set[str]) -> None:
    quoted = document()[title]
    made = [(place, text) for kind, place, text in messages(code()) if kind in kinds]
    assert made
    missing = [
        f"{place}: {text}"
        for place, text in made
        if has_words(text) and not any(occurs(fragment, text) for fragment in quoted)
    ]
    assert missing == []


@pytest.mark.parametrize(("title", "kinds"), list(sections()), ids=_order)
def test_the_table_quotes_no_other_message(title: str, kinds: set[str]) -> None:
    known = [text for kind, _, text in messages(code()) if kind in kinds]
    if "ConfigError" in kinds:
        of_settings = [m for name, m in code().items() if name.startswith(OF_SETTINGS)]
        for node in (node for module in of_settings for node in ast.walk(module.tree)):
            if isinstance(node, ast.JoinedStr):
                known.append(template(node))
    quoted = [text for text in document()[title] if not text.startswith("FILE: ")]
    assert [text for text in quoted if not any(occurs(text, other) for other in known)] == []


def test_links_lead_somewhere() -> None:
    for file, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", DOC.read_text("utf-8")):
        target = DOC.parent / file if file else DOC
        assert target.exists(), file
        titles = re.findall("^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
        assert not anchor or anchor in anchors, anchor


SAMPLE = {
    "a": """
ONE, TWO = "one", "two"

class ImageError(Exception):
    def __init__(self, reason, message): ...

class Again(ImageError): ...

def refuse(self, reason, problem):
    return ImageError(reason, problem)

def judge(row):
    if row:
        return "three", f"{row} is bad"
    return row.reason, row.problem

def use(row):
    reason, message = judge(row)
    refuse(reason, message)
    raise Again(ONE if row else TWO, message)
""",
    "b": """
from a import TWO as TWO, refuse

class Row:
    reason: str = "four"

def look(sample):
    refuse(TWO, "bad")
    return Row(reason=sample.reason or "five")
""",
}


def test_reasons_are_followed_to_where_they_are_made() -> None:
    assert reasons(parse(SAMPLE)) == {"one", "two", "three", "four", "five"}
    with pytest.raises(AssertionError, match="cannot follow"):
        reasons(parse({**SAMPLE, "c": "refuse(f'{x}_bad', 'it is bad')"}))


def test_a_fragment_occurs_by_its_words_and_not_by_its_values() -> None:
    (node,) = ast.parse("f'--grid {text!r} holds {parts[0]} twice'").body
    assert isinstance(node, ast.Expr)
    text = template(node.value)
    assert occurs("--grid … holds … twice", text) and occurs("holds …", text)
    assert not occurs("--grid holds twice", text) and not occurs("--grid … has", text)
