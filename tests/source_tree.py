"""The Python files of some packages, and what they import from one another."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file: one for all who ask, so nobody may change it."""
    return _parsed(path.read_text(encoding="utf-8"))


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def module_files(root: Path, packages: Iterable[str]) -> dict[str, Path]:
    """Full name → file of every module of some packages under a root, in order of the names."""
    files = (path for package in packages for path in (root / package).rglob("*.py"))
    return dict(sorted((_name(path.relative_to(root)), path) for path in files))


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def named_imports(tree: ast.Module, package: str) -> Iterator[tuple[str, str | None]]:
    """Module and, of ``from`` imports, the name; anywhere in a file, inside functions as well.

    Args:
        tree: Of a module.
        package: That the module is in, which relative imports start from.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = resolve_name(f"{'.' * node.level}{node.module or ''}", package)
            yield from ((name, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
            yield from ((str(name), None) for name in names)


def package_of(module: str, path: Path) -> str:
    """The package that a module is in; a package is in itself."""
    return module if path.stem == "__init__" else module.rpartition(".")[0]


def imported(name: str, modules: Mapping[str, Path]) -> set[str]:
    """Those of the modules that one imports.

    ``from package import name`` is the module of that name, or else the package's ``__init__``.
    """
    found = set()
    path = modules[name]
    for module, part in named_imports(parsed(path), package_of(name, path)):
        inner = f"{module}.{part}"
        found.add(inner if inner in modules else module)
    return found & modules.keys()


def import_graph(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Module → those of the modules that it imports."""
    return {name: imported(name, modules) for name in modules}


def is_inside(module: str, package: str) -> bool:
    """Whether a module is the package itself or in it."""
    return module == package or module.startswith(f"{package}.")
