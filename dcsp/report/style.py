"""What every page has inside itself: its style and script, and the policy that allows no other."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from dcsp.report.palette import class_colours

_HERE = Path(__file__).parent


@cache
def style() -> str:
    """The style sheet, with the colour of each class as ``.c<id>``."""
    colours = class_colours().tolist()
    swatches = [f".c{id_}{{background:rgb({r},{g},{b})}}" for id_, (r, g, b) in enumerate(colours)]
    return "\n".join([*swatches, (_HERE / "report.css").read_text()])


@cache
def script() -> str:
    """The script of pages with a gallery."""
    return (_HERE / "report.js").read_text()


def policy(style_: str, script_: str = "") -> str:
    """A content security policy: these alone, pictures of the page itself, and no network.

    Styles and handlers in attributes are not allowed either.

    Args:
        style_: Text of the page's style sheet.
        script_: Text of its script; empty: it has none.
    """
    rules = ["default-src 'none'", "img-src data:", f"style-src {_digest(style_)}"]
    if script_:
        rules.append(f"script-src {_digest(script_)}")
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
