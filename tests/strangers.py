"""What strangers may write into names, tags and errors, and when text is harmless."""

from __future__ import annotations

import unicodedata

HOSTILE = {
    "terminal": "clear\x1b[2J\x1b]0;owned\x07",
    "c1": "clear\x9b2J",
    "new line": "a\nerror: all is lost\r",
    "line of Unicode": "a\u2028error: all is lost",
    "direction": "gpj.\u202eexe",
    "isolate": "a\u2066b\u2069",
    "invisible": "a\u200bb\ufeff",
    "formula": "=cmd|' /C calc'!A0",
    "formula of a number": "+1+cmd|' /C calc'!A0",
    "formula by at": "@SUM(1+9)*cmd|' /C calc'!A0",
    "formula after white space": " \t=1+1",
    "markup": "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>",
    "long": "x" * 100_000,
    "no UTF-8": "caf\udce9",
    "nothing": "\0",
}


def assert_harmless(text: str) -> None:
    """No terminal or editor obeys any of it."""
    bad = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")} - {"\n"}
    assert not bad, ascii(text)
    assert "\nerror: all is lost" not in text
