"""Cue methods by the name they have in ``cues.method``, refinements by that in ``cues.refine``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dcsp.config import CueSettings, RunConfig, Settings
from dcsp.config.run import add_method
from dcsp.methods.affinity.method import AffinityMethod, AttentionMethod
from dcsp.methods.base import CueMethod
from dcsp.methods.builtin.method import BuiltinMethod
from dcsp.methods.ceiling import CeilingMethod
from dcsp.methods.dcsp import DCSPMethod
from dcsp.methods.mcof.method import MCOFMethod

METHODS: dict[str, CueMethod] = {
    "dcsp": DCSPMethod(),
    "affinity": AffinityMethod(AttentionMethod()),
    "mcof": MCOFMethod(),
    "builtin": BuiltinMethod(),
}
REFINEMENTS: dict[str, Callable[[CueMethod], CueMethod]] = {"affinity": AffinityMethod}


def register(name: str, method: CueMethod, settings: type[Settings]) -> None:
    """Add a method of another package; before any config is read, in every process of a run.

    Args:
        name: What ``cues.method`` calls it, and the name of its block of settings in ``cues``.
        method: The method.
        settings: Its block, all of whose settings have defaults.

    Raises:
        ValueError: ``cues`` has a setting of that name.
    """
    if name in CueSettings.model_fields:
        raise ValueError(
            f"The settings of cues have a {name!r} already: call the method otherwise."
        )
    add_method(name, settings)
    METHODS[name] = method


def method_of(config: RunConfig) -> CueMethod:
    """The method that a run names, refined where it asks for it; its ceiling with ``truth``."""
    settings = config.cues
    method = METHODS[settings.method]
    if settings.refine:
        method = REFINEMENTS[settings.refine](method)
    return CeilingMethod(method) if config.truth == "train" else method


def methods() -> Iterator[CueMethod]:
    """Every method."""
    yield from METHODS.values()
