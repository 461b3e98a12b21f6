"""What may import what, and how long files and functions may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Set

from tests.source_tree import (
    ROOT,
    import_graph,
    is_inside,
    module_files,
    named_imports,
    package_of,
    parsed,
)

MODULES = module_files(ROOT, ("dcsp", "jobs"))
IMPORTS = import_graph(MODULES)
LONGEST_FILE = 400  # lines
LONGEST_FUNCTION = 60  # lines, docstring and all
MOST_PARAMETERS = 8  # self and cls left out
MOST_LOOSE_MODULES = 5  # beside dcsp/__init__.py and __main__.py

FLOORS = (
    "dcsp.text",
    "dcsp.errors",
    "dcsp.labels",
    "dcsp.telemetry",
    "dcsp.progress",
    "dcsp.images",
    "dcsp.config",
    "dcsp.store",
    "dcsp.tables",
    "dcsp.stages",
    "dcsp.corpus.sources",
    "dcsp.corpus",
    "dcsp.corrections",
    "dcsp.networks",
    "dcsp.saliency",
    "dcsp.inference",
    "dcsp.training",
    "dcsp.cues",
    "dcsp.trust",
    "dcsp.selftags",
    "dcsp.methods.builtin.loss",  # any training may have it
    "dcsp.methods.shared",
    "dcsp.methods.base",
    "dcsp.methods",  # methods of one file
    "dcsp.methods.builtin",
    "dcsp.methods.mcof",
    "dcsp.methods.affinity",  # refines the cues of any other
    "dcsp.methods.selftags",
    "dcsp.methods.registry",
    "dcsp.run",
    "dcsp.evaluation",
    "dcsp.report",
    "dcsp.comparison",
    "dcsp.capacity",
    "dcsp.inspection",
    "dcsp.exports",
    "dcsp.review",
    "dcsp.upkeep",
    "dcsp.cli",
    "dcsp.__main__",
    "jobs._watch",
    "jobs._ending",
    "jobs._heart",
    "jobs._blocks",
    "jobs._cluster",
    "jobs._lease",
    "jobs._figures",
    "jobs._chain",
    "jobs._places",
    "jobs._main",
    "jobs._options",
    "jobs._planning",
    "jobs._labelling",
    "jobs._comparing",
    "jobs",
)
"""Rooms from the ground up: one imports from itself and from the floors below.

A module is in the room of the longest name that it begins with.
"""


def room_of(module: str) -> str | None:
    """The room of a module; None for one that has none."""
    rooms = (room for room in FLOORS if is_inside(module, room))
    return max(rooms, key=len, default=None)


def circles(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, directly or by way of others."""
    reached = {module: reachable(graph, module) for module in graph}
    circle_of = {
        module: tuple(sorted(other for other in there if module in reached[other]))
        for module, there in reached.items()
        if module in there
    }
    return [list(circle) for circle in sorted(set(circle_of.values()))]


def reachable(graph: Mapping[str, Set[str]], start: str) -> set[str]:
    """Every module that one imports, directly or not; itself only where a circle leads back."""
    seen: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(graph[module])
    return seen


def listed(found: list[str]) -> str:
    """What was found, one a line, for the message of a test."""
    return "\n" + "\n".join(found)


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method with the place where it stands."""
    for path in MODULES.values():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a caller may see."""
    a = function.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return len([arg for arg in every if arg.arg not in ("self", "cls")])


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}
    assert circles(graph) == [["b", "c"], ["e"]]


def test_no_files_import_one_another_in_a_circle() -> None:
    found = [f"  {' ⇄ '.join(circle)}" for circle in circles(IMPORTS)]
    assert not found, listed(found)


def test_every_module_has_a_floor() -> None:
    homeless = [module for module in MODULES if not room_of(module) and module != "dcsp"]
    assert not homeless, f"put them into FLOORS:{listed(homeless)}"


def test_every_floor_has_a_module() -> None:
    empty = sorted({*FLOORS} - {room_of(module) for module in MODULES})
    assert not empty, f"take them out of FLOORS:{listed(empty)}"


def test_imports_go_down() -> None:
    floors = {module: FLOORS.index(room_of(module) or FLOORS[0]) for module in MODULES}
    ups = [
        f"  {module} → {other}"
        for module, others in IMPORTS.items()
        for other in sorted(others)
        if floors[other] > floors[module] and module != "dcsp"
    ]
    assert not ups, f"imports from above:{listed(ups)}"
    assert not IMPORTS["dcsp"], "dcsp/__init__.py is under all floors: it imports nothing of ours"


def test_the_library_knows_neither_ray_nor_jobs() -> None:
    found = [
        f"  {module} → {name}"
        for module, path in MODULES.items()
        for name, _ in named_imports(parsed(path), package_of(module, path))
        if is_inside(module, "dcsp") and (is_inside(name, "ray") or is_inside(name, "jobs"))
    ]
    assert not found, listed(found)


def test_ray_is_imported_in_one_place() -> None:
    found = [
        f"  {module} → {name}"
        for module, path in MODULES.items()
        for name, _ in named_imports(parsed(path), package_of(module, path))
        if is_inside(name, "ray") and not is_inside(module, "jobs._cluster")
    ]
    assert not found, listed(found)


def test_a_worker_that_reads_parts_starts_without_torch_and_ray() -> None:
    script = "import jobs._blocks, sys; assert not {'torch', 'ray'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_few_modules_lie_loose() -> None:
    loose = [path.name for path in (ROOT / "dcsp").glob("[!_]*.py")]
    assert len(loose) <= MOST_LOOSE_MODULES, f"give them a package: {sorted(loose)}"


def test_files_can_be_read_in_one_sitting() -> None:
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES.values()}
    found = [
        f"  {path.relative_to(ROOT)}: {lines} lines"
        for path, lines in lengths.items()
        if lines > LONGEST_FILE
    ]
    assert not found, f"at most {LONGEST_FILE} lines:{listed(found)}"


def test_functions_can_be_seen_at_once() -> None:
    lengths = {place: (node.end_lineno or 0) - node.lineno + 1 for place, node in functions()}
    found = [f"  {place}: {n} lines" for place, n in lengths.items() if n > LONGEST_FUNCTION]
    assert not found, f"at most {LONGEST_FUNCTION} lines:{listed(found)}"


def test_functions_have_few_parameters() -> None:
    counts = {place: parameters(node) for place, node in functions()}
    found = [f"  {place}: {n} parameters" for place, n in counts.items() if n > MOST_PARAMETERS]
    assert not found, f"at most {MOST_PARAMETERS} parameters:{listed(found)}"


def test_scripts_say_how_to_run_them() -> None:
    scripts = sorted(ROOT.glob("jobs/[a-z]*.py"))
    assert scripts
    silent = [
        path.name
        for path in scripts
        if f"python jobs/{path.name} " not in (ast.get_docstring(parsed(path)) or "")
    ]
    assert not silent, f"their docstrings lack the command line: {silent}"


SAFE = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
"""Calls that are fine with one argument, and that argument."""
UNSAFE = re.compile(
    r"(eval|exec|compile|__import__|os\.system|yaml\.load|yaml\.unsafe_load"
    r"|(cloud)?pickle\.loads?|pd\.read_pickle)$"
)


def is_unsafe(call: ast.Call) -> bool:
    """Whether a call may run what it was given as data."""
    name, said = ast.unparse(call.func), {ast.unparse(keyword) for keyword in call.keywords}
    is_written = bool(call.args) and isinstance(call.args[0], ast.Constant)
    is_open = name.endswith("import_module") and not is_written
    is_careless = name in SAFE and SAFE[name] not in said
    return bool(UNSAFE.match(name)) or "shell=True" in said or is_open or is_careless


def test_no_input_becomes_code() -> None:
    found = [
        f"  {path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"
        for path in MODULES.values()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and is_unsafe(node)
    ]
    assert not found, listed(found)


TRUTH_READERS = (
    "dcsp.tables",  # says where it lies
    "dcsp.corpus",  # writes it
    "dcsp.evaluation",
    "dcsp.report",
    "dcsp.comparison",
    "dcsp.methods.ceiling",  # a comparison's run on masks, which every other job refuses
    "dcsp.capacity.probe",  # these three forecast evaluation
    "dcsp.capacity.sample",
    "dcsp.capacity.workload",
    "dcsp.inspection.verify",  # looks for damage
    "dcsp.upkeep",  # removes it with what it is the truth of
    "jobs",
)
"""Those who measure and show, and those who keep files: none of them mines cues or trains."""


def _is_config(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "config"  # the setting of that name


def test_truth_is_read_by_evaluation_and_report_alone() -> None:
    found = [
        f"  {path.relative_to(ROOT)}:{node.lineno}"
        for module, path in MODULES.items()
        if not any(is_inside(module, reader) for reader in TRUTH_READERS)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr == "truth" and not _is_config(node.value)
    ]
    assert not found, f"they read ground truth:{listed(found)}"
