"""The writer of markup."""

import pytest

from dcsp.report.markup import Markup, element, join
from dcsp.text import count, duration, percent, points, quantity, title


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


def test_figures_read_well() -> None:
    assert (percent(None), percent(57.25), points(-1.25), points(2)) == (
        "–", "57.2", "\N{MINUS SIGN}1.2", "+2.0"
    )  # fmt: skip
    assert [duration(s) for s in (4.21, 59.4, 200, 611, 7500)] == [
        "4.2 s", "59 s", "3 min 20 s", "10 min", "2 h 5 min"
    ]  # fmt: skip
    assert (count(12345), quantity(1, "row"), quantity(2, "class")) == (
        "12\u2009345", "1 row", "2 classes"
    )  # fmt: skip


def test_names_of_stages_are_split_into_words() -> None:
    assert [title(name) for name in ("joint_phase0", "cues phase 12", "fcan", "a_b", "7")] == [
        "joint phase 0", "cues phase 12", "fcan", "a b", "7"
    ]  # fmt: skip
