"""What ``dcsp diff`` says of two runs beside their settings: versions, and labels that changed."""

from __future__ import annotations

from typing import NamedTuple

from dcsp.evaluation.changes import Changes, class_pairs
from dcsp.evaluation.pairing import Comparison, compare_runs
from dcsp.inspection.inventory import Run
from dcsp.inspection.text import section
from dcsp.progress import Progress
from dcsp.stages.parts import stage_version
from dcsp.store.ahead import read_ahead
from dcsp.store.store import Store
from dcsp.text import count, percent

_AT_ONCE = 4
"""Parts that are compared at once; each has the labels of some hundred images in memory."""
_MOST_PAIRS = 20
"""Pairs of classes that are listed."""
_MOST_IMAGES = 10
"""Images that are listed; the page shows more."""


class Changed(NamedTuple):
    """What changed between the labels of two runs.

    Attributes:
        comparison: How they were compared.
        total: What was found, all parts together.
    """

    comparison: Comparison
    total: Changes


def count_changes(store: Store, first: str, second: str) -> Changed:
    """Compare what two runs publish, part by part, and show how far it is.

    Raises:
        StoreError: As :func:`dcsp.evaluation.pairing.compare_runs`, or a table cannot be read.
    """
    work = compare_runs(store, first, second)
    total, images = work.start, sum(pairing.images for pairing in work.pairings)
    with (
        Progress("changes", images) as progress,
        read_ahead(work.part, work.pairings, threads=_AT_ONCE, held=_AT_ONCE) as found,
    ):
        for pairing, changes in zip(work.pairings, found, strict=True):
            total += changes
            progress.advance(pairing.images)
    return Changed(work, total)


def versions(store: Store, run: Run) -> dict[str, object]:
    """Versions of Python and libraries at a run, and of the code of each of its stages.

    Raises:
        StoreError: A file that tells them cannot be read.
    """
    stages = {
        f"stage {step['title']}": stage_version(store, step["directory"]) or None
        for step in run.record.get("steps", ())
    }
    return {**run.record.get("versions", {}), **stages}


def changes_text(changed: Changed) -> str:
    """The images and pixels that changed, from which class to which, and the most changed."""
    total = changed.total
    if not (total.images_changed or total.new or total.gone):
        return section("labels", (), (), "", none="the same")
    said = [section("labels", ("", "images", "pixels"), _counts(total), "<>>")]
    if pairs := class_pairs(total, changed.comparison.classes):
        rows = [(p.before, p.after, count(p.pixels), percent(100 * p.share)) for p in pairs]
        if (left := len(rows) - _MOST_PAIRS) > 0:
            rows[_MOST_PAIRS:] = [("…", f"and {left} more", "", "")]
        said.append(section("pixels that changed", ("from", "to", "pixels", "%"), rows, "<<>>"))
    if total.most:
        most = [(image.image_id, percent(100 * image.share)) for image in total.most[:_MOST_IMAGES]]
        said.append(section("images that changed most", ("", "% of its pixels"), most, "<>"))
    return "\n".join(said)


def _counts(total: Changes) -> list[tuple[str, str, str]]:
    """What was compared and what changed; what did not occur is left out."""
    rows = [
        ("in both", total.images, count(total.pixels) if total.pixels else "not read"),
        ("changed", total.images_changed, _changed_pixels(total)),
        ("of another size", total.resized, ""),
        ("label lost", total.lost, ""),
        ("label gained", total.gained, ""),
        ("new", total.new, ""),
        ("gone", total.gone, ""),
    ]
    return [(name, count(n), told) for name, n, told in rows if n or name in ("in both", "changed")]


def _changed_pixels(total: Changes) -> str:
    changed = total.pixels_changed
    share = f" ({percent(100 * changed / total.pixels)} %)" if changed else ""
    return count(total.pixels_changed) + share
