"""Text for people: figures, rows of them below each other, and what strangers wrote.

Plain text that pipes well; nothing here imports more than Python itself. Names, tags, ids and
errors of other people's files become text of ours by :func:`shown` and no other way: it stays on
its line, commands no terminal, and holds no password.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

LONGEST = 2000
"""Characters of a message that are shown."""
_SECRET = re.compile(
    r"sig|token|key|secret|passw|pwd|credential|(?<![a-z])(?:sas|auth)(?![a-z])", re.IGNORECASE
)
_PARAMETER = re.compile(r"(?<=[?&;#])([^=?&;#\s]*)=([^&\s'\")]*)")
_USER = re.compile(
    r"://(?:[^\s/?#]*@(?!\S*\.dfs\.)|[^\s?#@]*:[^\s?#@]*@)",  # a container of Azure is no user
    re.IGNORECASE,
)


def holds_credentials(url: str) -> bool:
    """Whether a URL has a password, a key or a signature in it, as far as its form shows it."""
    return bool(_USER.search(url)) or any(map(_is_secret, _PARAMETER.finditer(url)))


def without_credentials(text: str) -> str:
    """A text without what :func:`holds_credentials` sees in the URLs that it names."""

    def cut(found: re.Match[str]) -> str:
        return f"{found[1]}=…" if _is_secret(found) else found[0]

    return _PARAMETER.sub(cut, _USER.sub("://…@", text))


def visible(text: str) -> str:
    r"""A text whose control characters are escaped, those that turn the direction among them.

    >>> visible("a\x1b[2Jb\u202ec")
    'a\\x1b[2Jb\\u202ec'
    """
    return "".join(c if c.isprintable() or c in _SPACES else _escaped(c) for c in text)


def shown(text: object, longest: int = LONGEST) -> str:
    """What strangers wrote, as part of one line: visible, without credentials, and not too long."""
    found = visible(without_credentials(str(text)))
    if len(found) <= longest:
        return found
    half = (longest - 3) // 2
    return f"{found[: longest - half - 3]} … {found[-half:]}"


def spreadsheet_cell(value: object) -> object:
    """A value of a CSV file: no program takes what strangers wrote for a formula.

    Spreadsheets compute what begins with ``= + - @``, or with one of these after white space; a
    number is none.
    """
    if not isinstance(value, str):
        return value
    told = shown(value)
    is_formula = value[:1] in ("\t", "\r", "\n") or told.lstrip()[:1] in ("=", "+", "-", "@")
    return f"'{told}" if is_formula and not _is_number(told) else told


def _is_secret(parameter: re.Match[str]) -> bool:
    return bool(_SECRET.search(unquote(parameter[1])))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_SPACES = "\u00a0\u2009\u202f\u3000"
"""White space of scripts and of figures, which no terminal obeys."""


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


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
