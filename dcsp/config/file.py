"""From a YAML file to a checked :class:`~dcsp.config.RunConfig` and back.

``a.b=value`` overrides change single settings, the last one of a setting counting; unknown keys are
refused, and the nearest known one is named.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from dcsp.config import RunConfig
from dcsp.config.base import HOLDS_SECRET
from dcsp.config.text import read_value, read_yaml
from dcsp.errors import ConfigError

_NOW = {
    "corpus.aliases": "corpus.synonyms: write {class: [tag]}",
    "saliency.detector": "saliency.detectors: a name, or a list of cards",
}
"""Settings of earlier versions → how the same is said now."""
PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}
"""Name of a preset → its file: settings of networks, trainings, cues and labels."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file and apply ``a.b=value`` overrides.

    Raises:
        ConfigError: The file is missing or no YAML mapping, or a setting is unknown or invalid.
    """
    return parse_config(override_tree(read_tree(path), overrides), source=str(path))


def read_tree(path: str | Path) -> dict[str, Any]:
    """The settings of a YAML file, not validated yet.

    Raises:
        ConfigError: The file is missing or no YAML mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the config {path} ({error}): check the path.") from error
    try:
        tree = read_yaml(text)
    except ValueError as error:
        raise ConfigError(f"The config {path} is not valid YAML: {error}.") from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"The config {path} must be a mapping of settings, such as 'store: ./store'."
        )
    return tree


def override_tree(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of a tree of settings with ``a.b=value`` overrides applied in order.

    Raises:
        ConfigError: An override is malformed, has no value, or leads through a value.
    """
    for override in overrides:
        tree = _overridden(tree, override)
    return tree


def parse_config(tree: dict[str, Any], source: str = "the config") -> RunConfig:
    """Validate a mapping of settings, which go before those of its ``preset``.

    Raises:
        ConfigError: A setting is unknown or invalid; the message names each with its value.
    """
    try:
        return RunConfig.model_validate(_with_preset(tree))
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(_explain(e) for e in error.errors())) from None


def _with_preset(tree: dict[str, Any]) -> dict[str, Any]:
    """Settings on top of those that the preset they name stands for."""
    if "preset" not in tree:
        return tree
    own = {key: value for key, value in tree.items() if key != "preset"}
    name = tree["preset"]
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"preset={name!r} is none of {', '.join(PRESETS)}.")
    merged: dict[str, Any] = _merged(read_tree(PRESETS[name]), own)
    return merged


def _merged(below: Any, above: Any) -> Any:
    """``above`` where it says something; of two mappings, key by key."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    shared = {key: _merged(below[key], value) for key, value in above.items() if key in below}
    return {**below, **above, **shared}


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML that :func:`load_config` reads back to an equal config.

    But for ``notify``, which may hold secrets and is left out.
    """
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _overridden(tree: dict[str, Any], override: str) -> dict[str, Any]:
    """A copy of a tree with one setting changed; mappings that YAML aliases share stay apart."""
    key, equals, text = override.partition("=")
    path = key.split(".")
    if not equals or not all(path):
        raise ConfigError(f"The override {override!r} must look like corpus.limit=100.")
    try:
        value = read_value(text)
    except ValueError as error:
        raise ConfigError(
            f"The value of the override {override!r} cannot be read: {error}."
        ) from error
    changed = node = dict(tree)
    for step in path[:-1]:
        child = node.get(step, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"The override {override!r} goes through {step!r}, which is a value: "
                f"give {step} as a whole."
            )
        node[step] = node = dict(child)
    node[path[-1]] = value
    return changed


def _explain(error: Any) -> str:
    where = ".".join(str(step) for step in error["loc"] if step != "[key]")
    if error["type"] == "extra_forbidden":
        if where in _NOW:
            return f"unknown setting '{where}', which is now {_NOW[where]}"
        *parents, unknown = error["loc"]
        near = difflib.get_close_matches(str(unknown), list(_keys_under(parents)), n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        return f"unknown setting '{where}'{hint}"
    if error["type"] == "missing":
        return f"the setting '{where}' is required"
    message: str = error["msg"].removeprefix("Value error, ")
    if error["type"] == "tuple_type":
        message = "write a list, such as [a, b]"
    if not isinstance(error["input"], dict) and error["type"] != HOLDS_SECRET:
        return f"{where}={error['input']!r}: {message}"
    return message if not where or where in message else f"{where}: {message}"


def _keys_under(parents: Sequence[str | int]) -> Iterator[str]:
    """Names of the settings below a path of keys; none where the path is of no block."""
    if not parents:
        yield "preset"
    kind: Any = RunConfig
    for step in parents:
        if _is_block(kind):
            field = kind.model_fields.get(str(step))
            kind = field.annotation if field else None
            if type(None) in get_args(kind):
                kind = _block_among(get_args(kind))
        else:  # a mapping of names to blocks: whatever the name, the block is the same
            kind = _block_among(get_args(kind))
    if _is_block(kind):
        yield from kind.model_fields


def _block_among(kinds: Sequence[Any]) -> Any:
    return next((kind for kind in kinds if _is_block(kind)), None)


def _is_block(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
