"""Digests of code that stay the same however the code is laid out and explained."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from typing import Any


def digest_text(text: str) -> str:
    """Sixteen hex digits of a sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_digest(statements: Sequence[ast.stmt]) -> str | None:
    """Digest of statements; None where none of them is code."""
    lines = [canonical(node) for node in statements if not _is_text(node)]
    return digest_text("\n".join(lines)) if lines else None


def canonical(node: ast.AST) -> str:
    """A syntax tree as text: the same in every version of Python and in every layout.

    What only readers and type checkers see is left out: bare strings, and annotations of functions.
    """
    parts = []
    for name, value in ast.iter_fields(node):
        is_annotation = name == "returns" or (name == "annotation" and isinstance(node, ast.arg))
        if is_annotation or name in ("ctx", "kind", "type_comment"):
            continue
        if isinstance(value, list):
            items = [_value(each) for each in value if not _is_text(each)]
            if items:  # newer versions of Python have more lists, empty ones
                parts.append(f"{name}=[{','.join(items)}]")
        elif value is not None or isinstance(node, ast.Constant):
            parts.append(f"{name}={_value(value)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _value(value: Any) -> str:
    return canonical(value) if isinstance(value, ast.AST) else repr(value)


def _is_text(node: Any) -> bool:
    """Whether a statement is a docstring: of a module, class, function or attribute."""
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant and isinstance(node.value.value, str)


def logic_of_settings(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """A module of settings without what only says which values a setting may have.

    Fields, their types and their checks are left out; functions, constants, properties and methods
    stay.
    """
    stays: list[ast.stmt] = []
    for node in statements:
        if isinstance(node, ast.ClassDef):
            logic = [n for n in node.body if isinstance(n, ast.FunctionDef) and not _checks(n)]
            stays += [ast.Expr(ast.Name(node.name)), *logic] if logic else []
        elif not _declares(node):
            stays.append(node)
    return stays


def _checks(function: ast.FunctionDef) -> bool:
    """Whether a method checks fields for pydantic."""
    return any("validator" in ast.unparse(each) for each in function.decorator_list)


def _declares(node: ast.stmt) -> bool:
    """Whether a statement imports, names a type of fields or says what the module gives away."""
    if isinstance(node, ast.Assign):
        value = ast.unparse(node.value)
        return ast.unparse(node.targets[0]) == "__all__" or value.startswith("Annotated[")
    return isinstance(node, ast.Import | ast.ImportFrom)
