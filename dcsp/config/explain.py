"""What a setting is: its type, range, default, the paper's value, and what its docstring says."""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, get_args

from dcsp.config.base import Settings
from dcsp.config.file import PRESETS
from dcsp.config.run import RunConfig
from dcsp.errors import ConfigError
from dcsp.text import in_columns

_PAPER = re.compile(r"\s*Paper: (.+?)\.(?=\s|$)")
_BLOCK, _NAMES = "settings", "names, each with"
"""What stands for the value of a block, and before that of a mapping of the user's names."""


@dataclass(frozen=True)
class Setting:
    """A setting, or a block of settings.

    Attributes:
        key: As overrides name it; empty for all settings.
        told: What its docstring says, but for the paper's value.
        paper: The paper's value; empty where there is none.
        kind: Type and range in words.
        default: As it would be written, or ``required``.
        block: Class of the settings below it; None where it is a value.
        defaults: Of those settings, where the block that they are in has others than its class.
    """

    key: str
    told: str
    paper: str
    kind: str
    default: str
    block: type[Settings] | None
    defaults: Mapping[str, Any]

    def within(self) -> list[Setting]:
        """The settings of a block, in order; none of a value."""
        if self.block is None:
            return []
        key = f"{self.key}.NAME" if self.kind.startswith(_NAMES) else self.key
        return [_setting(self.block, each, self.defaults, key) for each in self.block.model_fields]


ALL = Setting("", "Every setting of a run.", "", _BLOCK, "", RunConfig, {})


def find_setting(key: str) -> Setting:
    """A setting by its key: ``fcan.steps``; a block, such as ``fcan``; all where it is empty.

    Raises:
        ConfigError: There is none of this key.
    """
    found, steps = ALL, key.split(".") if key else []
    while steps:
        step = steps.pop(0)
        if found.block is None or step not in found.block.model_fields:
            near = difflib.get_close_matches(step, [s.key.split(".")[-1] for s in found.within()])
            hint = f", did you mean '{near[0]}'?" if near else ""
            lists = f"dcsp config {found.key}".strip()
            raise ConfigError(f"There is no setting {key!r}{hint}: `{lists}` says what there is.")
        found = _setting(found.block, step, found.defaults, found.key)
        if found.block and steps and found.kind.startswith(_NAMES):  # a name of the user's
            found = replace(found, key=f"{found.key}.{steps.pop(0)}", kind=_BLOCK)
    return found


def explained(setting: Setting) -> str:
    """A setting as text; of a block, its settings too, a line each."""
    lines = [setting.key, *textwrap.wrap(setting.told, 96)] if setting.key else [setting.told]
    facts = {"type": setting.kind, "default": setting.default, "paper": setting.paper}
    if setting.block is None or setting.kind != _BLOCK:
        lines += [f"  {name + ':':9} {fact}" for name, fact in facts.items() if fact]
    rows = [
        (
            each.key.rpartition(".")[2],
            "…" if each.kind == _BLOCK else each.default,
            _first(each.told),
        )
        for each in setting.within()
    ]
    if not setting.key:
        rows.insert(0, ("preset", ", ".join(PRESETS), "Settings that those of the file go before"))
    return "\n".join([*lines, *([""] if rows else []), *in_columns(rows, "<<<")])


def _setting(block: type[Settings], name: str, given: Mapping[str, Any], above: str) -> Setting:
    field, schema = block.model_fields[name], _schema(block)["properties"][name]
    inner = _block_in(field.annotation)
    told = _docstrings(block).get(name, "") or inspect.cleandoc((inner and inner.__doc__) or "")
    told = re.sub(r":\w+:`([^`]*)`", r"\1", " ".join(told.split())).replace("``", "`")
    paper = _PAPER.search(told)
    default = given.get(name, schema.get("default", None if field.is_required() else {}))
    is_given = name in given or not field.is_required()
    return Setting(
        f"{above}.{name}" if above else name,
        _PAPER.sub("", told).strip(),
        paper[1] if paper else "",
        _words(schema),
        json.dumps(default, ensure_ascii=False).strip('"') if is_given else "required",
        inner,
        default if inner and isinstance(default, dict) else {},
    )


def _first(told: str) -> str:
    """The first sentence, cut where it is long."""
    return textwrap.shorten(re.split(r"\. |; ", told)[0].rstrip("."), 60, placeholder=" …")


@cache
def _schema(block: type[Settings]) -> Mapping[str, Any]:
    return block.model_json_schema()


@cache
def _docstrings(block: type[Settings]) -> Mapping[str, str]:
    """Setting → the text below it in the source, of the block or one that it is made of."""
    found = {}
    for kind in reversed(block.__mro__):
        if kind is not Settings and issubclass(kind, Settings):
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
            assert isinstance(node, ast.ClassDef)
            for field, below in pairwise(node.body):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    found[ast.unparse(field.target)] = str(ast.literal_eval(below.value))
    return found


def _block_in(kind: Any) -> type[Settings] | None:
    """The block that a type is, or has values of."""
    if isinstance(kind, type) and issubclass(kind, Settings):
        return kind
    return next(filter(None, map(_block_in, get_args(kind))), None)


def _words(schema: Mapping[str, Any]) -> str:
    """A type of JSON Schema in words."""
    kind = schema.get("type")
    if "$ref" in schema:
        return _BLOCK
    if "anyOf" in schema:
        return " or ".join(map(_words, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    if kind == "array" and "prefixItems" in schema:
        return f"[{', '.join(map(_words, schema['prefixItems']))}]"
    if kind == "array":
        return f"list of {_words(schema['items'])}"
    if kind == "object":
        values = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
        return f"{_NAMES} {_words(next(filter(None, values)))}"
    words = {"number": "number", "integer": "whole number", "boolean": "true or false"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[name]:g}" for name, sign in bounds.items() if name in schema]
    return " ".join([words.get(str(kind), "text" if kind == "string" else str(kind)), *limits])
