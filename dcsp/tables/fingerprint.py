"""Fingerprints: a table is a function of what its fingerprint digests.

A :class:`StageKey` lists everything that decides what a stage puts out. Equal keys name the same
directory, so that nothing is computed twice and rows of different settings cannot mix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

FINGERPRINT_LENGTH = 20
"""Hex digits kept of a sha256: 80 bits, far from any collision among a store's stages."""


def digest(value: Any) -> str:
    """Fingerprint of a JSON value; the order of mapping keys does not matter.

    Raises:
        ValueError: The value holds a NaN or an infinity.
        TypeError: The value is not JSON.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]


def digest_lines(lines: Iterable[str]) -> str:
    """Fingerprint of a sequence of strings, computed without holding them all."""
    state = hashlib.sha256()
    for line in lines:
        encoded = line.encode()
        state.update(len(encoded).to_bytes(8, "little"))
        state.update(encoded)
    return state.hexdigest()[:FINGERPRINT_LENGTH]


@dataclass(frozen=True)
class StageKey:
    """Everything that decides the output of a stage.

    Attributes:
        stage: Name of the stage, such as ``"saliency"``.
        version: Raised by hand whenever the stage's code changes what it puts out.
        settings: The stage's own settings, as JSON values.
        inputs: What it reads: name → fingerprint.
        weights: Files it loads: name → sha256.
        seed: Seed of its random choices; ``None`` for a stage that makes none.
        home: Top-level directory of its output, where that is not the stage's name; decides
            nothing.
    """

    stage: str
    version: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    home: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The key as JSON values, stored beside the table for ``dcsp explain``."""
        return {
            "stage": self.stage,
            "version": self.version,
            "settings": dict(self.settings),
            "inputs": dict(self.inputs),
            "weights": dict(self.weights),
            "seed": self.seed,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all that decides the output."""
        return digest(self.as_dict())

    @property
    def directory(self) -> str:
        """Directory of the output in a store."""
        return f"{self.home or self.stage}/{self.fingerprint}"
