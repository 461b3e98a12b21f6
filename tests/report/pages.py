"""Pages as a browser reads them, and what every page of ours must be."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "img", "input", "line", "path", "rect"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and holds that elements nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def assert_self_contained(page: str) -> None:
    """Hold that a page is whole, runs our script alone, and needs nothing from elsewhere."""
    reader = Reader(page)
    assert reader.open == []
    assert not {"link", "iframe", "object", "embed", "base"} & set(reader.tags)
    for name, value in reader.attributes:
        assert name not in ("href", "srcset", "background", "style") and not name.startswith("on")
        assert name != "src" or value.startswith("data:image/")
    assert not re.search(r"url\(|@import|https?://", page)
    assert reader.tags["script"] <= 1
    for element in ("style", "script"):
        for text in re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{element}-src 'sha256-{digest}'" in html.unescape(page)
    assert "<script " not in page and "default-src 'none'; img-src data:;" in html.unescape(page)
