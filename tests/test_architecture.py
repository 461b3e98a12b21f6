"""What may import what, and how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted([*ROOT.glob("dcsp/**/*.py"), *ROOT.glob("jobs/**/*.py")])
SCRIPTS = sorted(ROOT.glob("jobs/[a-z]*.py"))
LONGEST = 400  # lines

LAYERS = [
    {"jobs"},
    {
        "dcsp.cli",
        "dcsp.run.overview",
        "dcsp.inspection.inventory",
        "dcsp.inspection.rejections",
        "dcsp.inspection.verify",
    }
    | {"dcsp.capacity.probe", "dcsp.capacity.workload"},
    {"dcsp.comparison"},
    {"dcsp.report"},
    {"dcsp.evaluation", "dcsp.run.record", "dcsp.run.retraining", "dcsp.capacity.pace"},
    {"dcsp.run.plan", "dcsp.export"},
    {"dcsp.methods"},
    {"dcsp.training", "dcsp.inference", "dcsp.cues", "dcsp.selftags"},
    {"dcsp.networks", "dcsp.saliency", "dcsp.corpus"},
    {"dcsp.images.decode", "dcsp.images.upsampling", "dcsp.tables"},
    {"dcsp.labels", "dcsp.config", "dcsp.config.file", "dcsp.progress"},
    {"dcsp.errors"},
]
"""From the top to the ground: a module imports from its own layer and those below."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(module: str) -> int | None:
    """Index of the layer; None for packages of others and for ``dcsp`` itself."""
    for index, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return index
    return None


def of_package(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_ray_is_imported_in_one_place(path: Path) -> None:
    if not name_of(path).startswith("jobs._cluster"):
        assert not [module for module in imports(path) if of_package(module, "ray")]


def test_a_worker_that_reads_parts_starts_without_torch_and_ray() -> None:
    script = "import jobs._blocks, sys; assert not {'torch', 'ray'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def called(node: ast.Call) -> str:
    """What a call calls, as it is written: ``yaml.load``."""
    return ast.unparse(node.func)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_input_becomes_code(path: Path) -> None:
    safe = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            said = {ast.unparse(keyword) for keyword in node.keywords}
            name = called(node)
            assert name.split(".")[-1] not in ("eval", "exec") or "." in name, ast.unparse(node)
            assert name not in (
                "compile",
                "__import__",
                "os.system",
                "yaml.load",
                "yaml.unsafe_load",
            )
            assert not re.match(r"(cloud)?pickle\.loads?$|pd\.read_pickle", name), ast.unparse(node)
            assert "shell=True" not in said, ast.unparse(node)
            assert name not in safe or safe[name] in said, ast.unparse(node)
            if name.endswith("import_module"):  # of a name that is written there
                assert isinstance(node.args[0], ast.Constant), ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    here = layer_of(name_of(path))
    if name_of(path) == "dcsp":
        return
    assert here is not None, f"{name_of(path)} has no layer: put it into LAYERS"
    layers = {module: layer_of(module) for module in imports(path)}
    ups = [module for module, layer in layers.items() if layer is not None and layer < here]
    assert not ups, f"{name_of(path)} imports from above: {ups}"


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_scripts_say_how_to_run_them(path: Path) -> None:
    if path.stem.startswith("_"):
        return
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text is not None
    assert f"python jobs/{path.name} --" in text


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_can_be_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LONGEST


def test_truth_is_read_by_evaluation_and_report_alone() -> None:
    readers = {"dcsp.evaluation", "dcsp.report", "dcsp.comparison", "dcsp.corpus", "dcsp.tables"}
    readers |= {
        "dcsp.inspection.inventory",
        "dcsp.inspection.verify",
        "dcsp.run.plan",
        "dcsp.cli",
        "jobs",
    }
    readers |= {"dcsp.capacity.probe", "dcsp.capacity.workload"}
    for path in MODULES:
        if any(of_package(name_of(path), reader) for reader in readers):
            continue
        constants = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for node in constants:
            if isinstance(node, ast.Attribute):
                assert node.attr != "truth", f"{name_of(path)} reads ground truth"
