"""Gates: what the figures of a run must be for it to be published without anybody looking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dcsp.config import GateSettings
from dcsp.tables.schemas import ERROR
from dcsp.tables.snapshot import TRAIN, VAL

Metrics = Mapping[str, Any]
"""Content of ``metrics.json``."""


@dataclass(frozen=True)
class Candidate:
    """A run that has ended, and the published one beside it.

    Attributes:
        run_id: Id of the run.
        metrics: Its figures.
        rejected_share: Share of its images that ingest could not use, in [0, 1].
        published: Id of the published run; None where nothing is published.
        published_metrics: Its figures; empty where they are gone.
    """

    run_id: str
    metrics: Metrics
    rejected_share: float
    published: str | None = None
    published_metrics: Metrics | None = None


@dataclass(frozen=True)
class Gate:
    """One limit and how a run keeps to it.

    Attributes:
        name: Of the setting in ``gates``, such as ``"max_changed_share"``.
        limit: Of the config: mIoU in percent or points, shares in [0, 1].
        value: The figure, in the same unit; None where it is not known.
        passed: Whether it keeps to the limit; at the limit it does.
        sentence: What a person is told, without a full stop.
    """

    name: str
    limit: float
    value: float | None
    passed: bool
    sentence: str


def figures_of(run: Candidate) -> dict[str, float | None]:
    """Every figure that gates look at, by name; None where it is not known.

    ``miou`` and ``expected_miou`` are in percent, ``miou_drop`` in points and below 0 where the run
    is better, shares in [0, 1].
    """
    trust = run.metrics.get("trust") or {}
    against = run.metrics.get("against") or {}
    _, failed = _most_failed(run.metrics)
    is_like = run.published is not None and against.get("run") == run.published
    return {
        "miou": next((miou for _, miou in _measured(run.metrics)), None),
        "expected_miou": trust.get("expected_miou"),
        "tag_consistency": trust.get("tag_consistency"),
        "rejected_share": run.rejected_share,
        "failed_share": failed,
        "changed_share": against.get("changed_share") if is_like else None,
        "miou_drop": _drop(run),
    }


def check_gates(settings: GateSettings, run: Candidate) -> list[Gate]:
    """How a run keeps to the limits that a config sets, in the order of the settings."""
    figures = figures_of(run)
    limits = ((name, getattr(settings, name)) for name in type(settings).model_fields)
    return [_gate(name, limit, figures, run) for name, limit in limits if limit is not None]


def _gate(name: str, limit: float, figures: Mapping[str, float | None], run: Candidate) -> Gate:
    bound, _, figure = name.partition("_")
    value = figures[figure]
    if value is None:
        if figure in _COMPARED and run.published is None:
            return Gate(name, limit, None, True, f"{figure}: nothing is published yet")
        why = _UNKNOWN[figure](run)
        unknown = f"{figure} is not known: {why}, or remove gates.{name}"
        return Gate(name, limit, None, False, unknown)
    passed = value >= limit if bound == "min" else value <= limit
    told, wanted = _apart(value, limit)
    of = f" (of {_most_failed(run.metrics)[0]})" if figure == "failed_share" else ""
    if passed:
        sentence = f"{figure} is {told}{of}, within gates.{name}={wanted}"
    elif bound == "min":
        sentence = f"{figure} is {told}, less than the {wanted} required (gates.{name})"
    else:
        sentence = f"{figure} is {told}{of}, more than the {wanted} allowed (gates.{name})"
    return Gate(name, limit, value, passed, sentence)


def _apart(value: float, limit: float) -> tuple[str, str]:
    """Two numbers as text, with as many digits as it takes to tell them apart."""
    for digits in range(2, 18):
        told, wanted = f"{value:.{digits}f}", f"{limit:.{digits}f}"
        if told != wanted or value == limit:
            return told, wanted
    return repr(value), repr(limit)


def _measured(metrics: Metrics) -> list[tuple[str, float]]:
    """Split → measured mIoU of the published labels; held-out images first."""
    found = ((split, (metrics.get(split) or {}).get("miou_published")) for split in (VAL, TRAIN))
    return [(split, miou) for split, miou in found if miou is not None]


def _drop(run: Candidate) -> float | None:
    """How far the measured mIoU lies below the published run's, on one and the same split."""
    before = dict(_measured(run.published_metrics or {}))
    drops = (before[split] - miou for split, miou in _measured(run.metrics) if split in before)
    return next(drops, None)


def _most_failed(metrics: Metrics) -> tuple[str, float | None]:
    """The table with the largest share of rows in error, and that share."""
    shares = {
        table: statuses.get(ERROR, 0) / max(1, sum(statuses.values()))
        for table, statuses in (metrics.get("rows") or {}).items()
    }
    worst = max(shares, key=lambda table: shares[table], default="")
    return worst, shares.get(worst)


def _lacks(what: str) -> Callable[[Candidate], str]:
    return lambda run: what


def _why_not_compared(run: Candidate) -> str:
    before = (run.metrics.get("against") or {}).get("run")
    if before == run.published:
        return f"this run and the published {run.published} have no image in common that has labels"
    return (
        f"it could not be compared with the published {run.published}, as the job says: publish "
        "another run"
    )


def _why_no_drop(run: Candidate) -> str:
    if not _measured(run.metrics):
        return _NO_MASK
    return f"the published {run.published} was not measured on the same split: publish by hand once"


_COMPARED = ("changed_share", "miou_drop")
_NO_MASK = "no image that is labelled has a mask to compare with: give masks"
_UNKNOWN: dict[str, Callable[[Candidate], str]] = {
    "miou": _lacks(_NO_MASK),
    "expected_miou": _lacks("this run has no labels to estimate it from: give tags or masks"),
    "tag_consistency": _lacks("no image that is labelled has tags: give tags"),
    "failed_share": _lacks("this run does not count its rows: submit the job again"),
    "changed_share": _why_not_compared,
    "miou_drop": _why_no_drop,
}
