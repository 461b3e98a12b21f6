"""Cue methods by the name they have in ``cues.method``, refinements by that in ``cues.refine``."""

from __future__ import annotations

from collections.abc import Callable

from dcsp.config import CueSettings
from dcsp.methods.affinity.method import AffinityMethod, AttentionMethod
from dcsp.methods.base import CueMethod
from dcsp.methods.builtin.method import BuiltinMethod
from dcsp.methods.dcsp import DCSPMethod
from dcsp.methods.mcof.method import MCOFMethod

METHODS: dict[str, CueMethod] = {
    "dcsp": DCSPMethod(),
    "affinity": AffinityMethod(AttentionMethod()),
    "mcof": MCOFMethod(),
    "builtin": BuiltinMethod(),
}
REFINEMENTS: dict[str, Callable[[CueMethod], CueMethod]] = {"affinity": AffinityMethod}


def method_of(settings: CueSettings) -> CueMethod:
    """The method that the settings name, refined where they ask for it."""
    method = METHODS[settings.method]
    return REFINEMENTS[settings.refine](method) if settings.refine else method
