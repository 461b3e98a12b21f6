"""Figures as people read them, and rows of them below each other.

Plain text that pipes well; nothing here imports more than Python itself.
"""

from __future__ import annotations

from collections.abc import Sequence


def percent(value: float | None) -> str:
    """A percentage with one decimal, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.1f}"


def points(value: float) -> str:
    """A difference of percentages with its sign, such as ``+2.3``."""
    return f"{value:+.1f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds to about three figures, such as ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 9.95:  # what would be shown as 10.0 s is 10 s
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(number: float) -> str:
    """Bytes in binary units with one decimal, such as ``1.5 GiB``; below a KiB whole ones."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1023.5:  # what would be shown as 1024 of a unit is 1.0 of the next
            return f"{round(number)} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


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


def in_columns(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Rows as lines whose cells stand below each other, two spaces apart.

    Args:
        rows: Cells of each row; a heading is a row like the others.
        align: A sign a column: ``<`` to the left or ``>`` to the right.

    Raises:
        ValueError: A row has more or fewer cells than there are signs.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
