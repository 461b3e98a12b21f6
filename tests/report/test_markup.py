"""The writer of markup."""

import pytest

from dcsp.report.markup import Markup, element, join


def test_strings_are_escaped_and_markup_is_kept() -> None:
    inner = element("b", '1 < 2 & "3"')
    assert inner == "<b>1 &lt; 2 &amp; &quot;3&quot;</b>"
    assert element("p", inner, None, [" ", 4]) == f"<p>{inner} 4</p>"
    assert isinstance(join("<"), Markup)


def test_attributes_are_escaped_renamed_or_left_out() -> None:
    written = element("img", class_='a"b', aria_label="<", title=None, viewBox=1)
    assert written == '<img class="a&quot;b" aria-label="&lt;" viewBox="1"/>'


def test_other_children_are_refused() -> None:
    with pytest.raises(TypeError, match="float"):
        element("p", 1.5)
