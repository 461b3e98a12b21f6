"""Figures as people read them."""

from __future__ import annotations


def percent(value: float | None) -> str:
    """A percentage with one decimal, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.1f}"


def points(value: float) -> str:
    """A difference of percentages with its sign, such as ``+2.3``."""
    return f"{value:+.1f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds to about three figures, such as ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 3600:
        return f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int) -> str:
    """A whole number with its thousands set apart by thin spaces."""
    return f"{number:,}".replace(",", "\u2009")


def quantity(number: int, noun: str) -> str:
    """A number with its noun, such as ``1 image`` or ``3 images``."""
    plural = noun if number == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count(number)} {plural}"


def title(name: str) -> str:
    """The name of a stage or table as people write it: ``joint_phase0`` as ``joint phase 0``."""
    words, digits = name.replace("_", " "), ""
    while words and words[-1].isdigit():
        words, digits = words[:-1], words[-1] + digits
    return f"{words.rstrip()} {digits}" if words and digits else name.replace("_", " ")
