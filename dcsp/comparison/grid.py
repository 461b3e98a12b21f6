"""The grid of a comparison: from ``key=v1,v2`` on the command line to the config of every run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from dcsp.config import RunConfig
from dcsp.config.file import override_tree, parse_config, read_tree
from dcsp.config.text import read_value
from dcsp.errors import ConfigError
from dcsp.tables.fingerprint import digest

RESERVED = {
    "store": "all runs share one store, where they find what others computed",
    "name": "a run's name tells its settings",
    "seed": "--seeds N gives the seeds 0 to N - 1",
    "cluster": "it does not decide any result",
    "truth": "--ceiling compares with true masks",
}
"""Settings that cannot be in a grid, and why."""
LONGEST_NAME = 100
"""Characters of a run's name; see :class:`~dcsp.config.RunConfig`."""
_CLOSING = {"[": "]", "{": "}"}
_BEFORE_QUOTE = "[{,:"
"""A quote opens a string only at the start of a YAML value; elsewhere it is an apostrophe."""


@dataclass(frozen=True)
class Axis:
    """One key of the grid and its values, each as it was written."""

    key: str
    values: tuple[str, ...]


CEILING = Axis("truth", ("evaluate", "train"))
"""Every combination as it is, and with networks that learn from true masks."""


@dataclass(frozen=True)
class Combination:
    """One choice of a value for every key of the grid.

    Attributes:
        settings: Short name of a key → value as it was written.
        overrides: The same with whole keys, as ``key=value``.
    """

    settings: tuple[tuple[str, str], ...]
    overrides: tuple[str, ...]

    @property
    def ceiling(self) -> tuple[tuple[str, str], ...]:
        """The settings of the combination that learns from true masks in its place."""
        return tuple((n, "train" if n == CEILING.key else value) for n, value in self.settings)

    @property
    def label(self) -> str:
        """The settings as people read them, such as ``method=dcsp, gamma_low=0.2``."""
        return ", ".join(f"{name}={value}" for name, value in self.settings)


@dataclass(frozen=True)
class GridRun:
    """One run of a comparison.

    Attributes:
        comparison: The name in the config file.
        combination: Its settings.
        seed: Its seed.
        config: Its config, with a name that tells settings and seed.
    """

    comparison: str
    combination: Combination
    seed: int
    config: RunConfig

    @property
    def label(self) -> str:
        """Its settings and its seed."""
        return f"{self.combination.label}, seed={self.seed}"


def parse_axis(text: str) -> Axis:
    """Read ``key=v1,v2``; commas inside brackets, braces and quotes belong to a value.

    Raises:
        ConfigError: It has no key, an empty or repeated value, or the key cannot be in a grid.
    """
    key, equals, values = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--grid {text!r} must look like cues.dcsp.gamma_low=0.2,0.4.")
    root = key.split(".")[0]
    if root in RESERVED:
        raise ConfigError(f"--grid cannot hold {key}: {RESERVED[root]}.")
    parts = _split(values, text)
    meanings = [repr(_meaning(part, text)) for part in parts]
    for index, meaning in enumerate(meanings):
        if meaning in meanings[:index]:
            raise ConfigError(f"--grid {text!r} holds {parts[index]} twice: give each value once.")
    return Axis(key, tuple(parts))


def combinations(axes: Sequence[Axis]) -> list[Combination]:
    """Every choice of one value an axis, the last axis changing fastest.

    Raises:
        ConfigError: Two axes have the same key.
    """
    keys = [axis.key for axis in axes]
    repeated = [key for key in keys if keys.count(key) > 1]
    if repeated:
        raise ConfigError(f"--grid has {repeated[0]} twice: give all its values at once.")
    names = short_names(keys)
    return [
        Combination(
            tuple(zip(names, values, strict=True)),
            tuple(f"{key}={value}" for key, value in zip(keys, values, strict=True)),
        )
        for values in product(*(axis.values for axis in axes))
    ]


def expand(
    path: str | Path, overrides: Sequence[str], axes: Sequence[Axis], seeds: int
) -> list[GridRun]:
    """The runs of a comparison: every combination with seed 0, then with seed 1, and so on.

    Args:
        path: The config file.
        overrides: Settings that hold for all runs.
        axes: The grid.
        seeds: Number of seeds, at least 1.

    Raises:
        ConfigError: The file or an override cannot be read, or a combination is invalid; the
            message names it. Nothing has run by then.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds is {seeds}: at least one seed is needed.")
    fixed = [override for override in overrides if override.partition("=")[0] == "seed"]
    if fixed:
        raise ConfigError(f"The override {fixed[0]!r} has no place here: {RESERVED['seed']}.")
    tree = override_tree(read_tree(path), overrides)
    runs: list[GridRun] = []
    problems: list[str] = []
    for combination in combinations(axes):
        try:
            config = parse_config(override_tree(tree, combination.overrides), source=str(path))
        except ConfigError as error:
            problems.append(f"The combination {combination.label} is refused: {error}")
            continue
        runs += [_run(combination, config, seed) for seed in range(seeds)]
    if problems:
        more = f" (Of the combinations {len(problems)} are refused.)" if problems[1:] else ""
        raise ConfigError(problems[0] + more)
    return sorted(runs, key=lambda run: run.seed)


def short_names(keys: Sequence[str]) -> list[str]:
    """The last words of each dotted key, as many as tell it from the others.

    >>> short_names(["cues.dcsp.gamma_low", "fcan.steps", "joint.steps"])
    ['gamma_low', 'fcan.steps', 'joint.steps']
    """
    return [_shortest(key, [other for other in keys if other != key]) for key in keys]


def _shortest(key: str, others: Sequence[str]) -> str:
    words = key.split(".")
    suffixes = [".".join(words[start:]) for start in reversed(range(len(words)))]
    free = (s for s in suffixes if not any(o == s or o.endswith(f".{s}") for o in others))
    return next(free, key)


def _run(combination: Combination, config: RunConfig, seed: int) -> GridRun:
    name = _name(config.name, [*combination.settings, ("seed", str(seed))])
    named = config.model_copy(update={"name": name, "seed": seed})
    return GridRun(config.name, combination, seed, named)


def _name(prefix: str, settings: Sequence[tuple[str, str]]) -> str:
    """A run's name with its settings; one that is too long ends in a digest of all of it."""
    words = [prefix, *(f"{name}-{value}" for name, value in settings)]
    whole = "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", word).strip("-") for word in words)
    if len(whole) <= LONGEST_NAME:
        return whole
    ending = f"-{digest(words)[:8]}"
    return whole[: LONGEST_NAME - len(ending)] + ending


def _meaning(value: str, text: str) -> Any:
    """A value as it is told from others: of a number its size."""
    try:
        found = read_value(value)
    except ValueError as error:
        raise ConfigError(
            f"The value {value!r} of --grid {text!r} cannot be read: {error}."
        ) from error
    try:
        return float(found)
    except (TypeError, ValueError):
        return found


def _split(values: str, text: str) -> list[str]:
    """The values between the commas that stand outside of brackets, braces and quotes."""
    ends = [-1, *_commas(values, text), len(values)]
    parts = [values[a + 1 : b].strip() for a, b in pairwise(ends)]
    if not all(parts):
        raise ConfigError(f"--grid {text!r} has an empty value: write null for none.")
    return parts


def _commas(values: str, text: str) -> Iterator[int]:
    """Positions of the commas between values."""
    awaited: list[str] = []
    before = ","
    for position, sign in enumerate(values):
        quoted = bool(awaited) and awaited[-1] in "'\""
        if awaited and sign == awaited[-1]:
            awaited.pop()
        elif quoted:
            continue
        elif sign in _CLOSING:
            awaited.append(_CLOSING[sign])
        elif sign in "'\"" and before in _BEFORE_QUOTE:
            awaited.append(sign)
        elif sign == "," and not awaited:
            yield position
        if not sign.isspace():
            before = sign
    if awaited:
        raise ConfigError(f"--grid {text!r} lacks a closing {awaited[-1]}.")
