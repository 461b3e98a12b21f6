"""A small writer of HTML and SVG that escapes every text by construction."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

from dcsp.text import visible, without_credentials

_VOID = frozenset({"meta", "img", "br", "input", "line", "rect", "circle", "path", "polyline"})


class Markup(str):
    """Text that is markup already; any other string is escaped when it becomes a child."""

    __slots__ = ()


class Url(str):
    """The address of a picture in base64, which has nothing to escape, and no names of strangers.

    Looking for credentials in it takes long, and may find some.
    """

    __slots__ = ()

    @classmethod
    def of(cls, kind: str, data: bytes) -> Url:
        """A file as a ``data:`` URL; ``kind`` is that of the picture, such as ``"png"``."""
        return cls(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """One element with its children.

    Args:
        tag: Name of the element.
        children: Strings (escaped), :class:`Markup` (kept), numbers, None (nothing), or iterables
            of these.
        attributes: Values are escaped; None leaves an attribute out; a trailing underscore is
            dropped and other underscores become hyphens (``class_``, ``stroke_width``), so that
            ``viewBox`` keeps its case.

    Returns:
        The element as markup.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: object) -> Markup:
    """Children one after the other, as :func:`element` takes them."""
    return Markup("".join(_write(child) for child in children))


def _attribute(value: object) -> str:
    return value if isinstance(value, Url) else _escaped(value)


def _write(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int):
        return _escaped(child)
    if isinstance(child, Iterable):
        return "".join(_write(one) for one in child)
    raise TypeError(f"{type(child).__name__} cannot be a child of an element")


def _escaped(value: object) -> str:
    """Text that a browser shows as it is, line by line: names come from strangers."""
    lines = without_credentials(str(value)).split("\n")
    return html.escape("\n".join(map(visible, lines)))
