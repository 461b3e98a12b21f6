"""Which versions of other people's libraries made an output.

They are in no fingerprint: an update would make every table anew for digits that hardly differ. So
each part of a table and each checkpoint says what made it, and ``dcsp verify`` tells of mixtures.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

import pyarrow as pa

from dcsp.text import quantity

NETWORKS = ("numpy", "pillow", "pydensecrf2", "timm", "torch")
"""What a stage with a network of ours computes by; those that are not installed do not count."""
_KEY = b"dcsp.libraries"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Package → version, of those that are installed."""
    found = {package: _version(package) for package in packages}
    return {package: version for package, version in found.items() if version}


@cache
def _version(package: str) -> str:
    """Empty where it is not installed; parts ask again and again, and the answer takes a search."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def as_told(packages: Iterable[str]) -> list[str]:
    """Packages as an output tells them, ``numpy 2.1.0`` say."""
    return [f"{package} {version}" for package, version in versions(packages).items()]


def marked(table: pa.Table, told: Iterable[str]) -> pa.Table:
    """The table with a note of what made it, which its file will have."""
    text = ", ".join(sorted(set(told)))
    return table.replace_schema_metadata({_KEY: text.encode()} if text else None)


def makers(table: pa.Table) -> list[str]:
    """What made a table, as it was read from its file; nothing of earlier versions."""
    text = (table.schema.metadata or {}).get(_KEY, b"").decode(errors="replace")
    return text.split(", ") if text else []


def mixture(outputs: Iterable[Sequence[str]], noun: str) -> str:
    """One line on packages of which outputs had different versions; empty where none had.

    >>> mixture([["torch 2.6", "numpy 2.1"], ["torch 2.7", "numpy 2.1"]], "part")
    '1 part by torch 2.6, 1 by torch 2.7'
    """
    counts: dict[str, Counter[str]] = {}
    for told in outputs:
        by_package: dict[str, list[str]] = {}
        for entry in told:
            package = entry.partition(" ")[0]
            by_package.setdefault(package, []).append(entry)
        for package, entries in by_package.items():
            counts.setdefault(package, Counter())[" and ".join(entries)] += 1
    lines = []
    for _, found in sorted(counts.items()):
        if len(found) > 1:
            (first, number), *others = sorted(found.items(), key=lambda item: (-item[1], item[0]))
            more = "".join(f", {count} by {entry}" for entry, count in others)
            lines.append(f"{quantity(number, noun)} by {first}{more}")
    return "; ".join(lines)
