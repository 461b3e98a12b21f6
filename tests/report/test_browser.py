"""The report in a real browser: what its script does, and what it keeps from doing."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dcsp.report.data import Card
from dcsp.report.layers import Pictures
from dcsp.report.page import build_report
from dcsp.report.palette import class_colours
from dcsp.text import shown
from tests.report.conftest import CLASSES as SHOWN
from tests.report.conftest import good_run, pictures

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on PATH (apt-get install chromium)"
)

CLASSES = (*SHOWN, "owl")
PAGE = 60
"""Cards that the script shows at once."""
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
REASONS = ("no_pixels", "confidence", "network")
NASTY = 'it\'s $(odd); "id" <b>'
Open = Callable[..., Page]


def cards() -> list[Card]:
    """130 images of known figures, the least trusted first, as a report has them."""
    photo = np.full((60, 80, 3), (40, 90, 160), np.uint8)
    found = []
    for number in range(130):
        class_id = 1 + number % 3
        drawn = Pictures(photo, _labels(class_id))
        found.append(
            Card(
                f"2008/image-{number * 7 % 130:03}",
                "val" if number % 3 else "train",
                [class_id],
                shown=[class_id],
                trust=number / 130,
                iou=float(number * 11 % 97) if number % 3 else None,
                changed=0.0 if number % 10 else number / 200,
                reasons=[(class_id, REASONS[number % 3])] if number % 2 else [],
                layers=drawn.layers(20_000),
            )
        )
    everywhere = np.full((60, 80), 4, np.uint8)  # a class that no tag and no published label has
    first = Pictures(photo, {**_labels(1), "cue 1": everywhere})
    found[0] = replace(found[0], is_corrected=True, layers=first.layers(20_000))
    found[3] = replace(found[3], image_id=NASTY)
    found[4] = replace(found[4], image_id="s3://b/1?token=abc")
    found[5] = replace(found[5], layers=pictures().layers(100_000))
    return [*found, Card("failed", "train", [], error="it is torn")]


def _labels(class_id: int) -> dict[str, NDArray[np.uint8]]:
    """A class at the right, in whose place the mask has the next one."""
    right = np.arange(80)[None].repeat(60, axis=0) >= 40
    found = {"published": class_id, "ground truth": 1 + class_id % 3}
    return {title: (right * id_).astype(np.uint8) for title, id_ in found.items()}


CARDS = cards()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = replace(good_run(), classes=CLASSES, gallery=CARDS, images={"train": 45, "val": 86})
    file = tmp_path_factory.mktemp("report") / "index.html"
    file.write_text(build_report(run))
    return file


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Open]:
    """Opens the report; whatever a test does, nothing is fetched and the console stays silent."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_(hash_: str = "", **settings: Any) -> Page:
        contexts.append(browser.new_context(**({"viewport": DESKTOP} | settings)))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri() + hash_)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    assert {url.partition("#")[0] for url in asked if not url.startswith("data:image/")} == {
        report.as_uri()
    }


def ids(page: Page) -> list[str]:
    return page.locator("#cards h3").all_text_contents()


def wait_for(page: Page, drawn: str) -> None:
    """Until the canvas shows what was asked for."""
    page.wait_for_function("text => canvas.dataset.drawn?.includes(text)", arg=drawn)


def pixel(page: Page, x: float, y: float) -> list[int]:
    """RGB of the canvas at a place in [0, 1)."""
    script = """([x, y]) => {
      const copy = new OffscreenCanvas(1, 1).getContext("2d");
      copy.drawImage(canvas, Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1,
        0, 0, 1, 1);
      return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
    }"""
    found: list[int] = page.evaluate(script, [x, y])
    return found


FILTERS: tuple[tuple[str, str | None, Callable[[Card], Any]], ...] = (
    ("class", "2", lambda card: 2 in card.tags),
    ("reason", "confidence", lambda card: "confidence" in dict(card.reasons).values()),
    ("reason", "failed", lambda card: card.error),
    ("split", "val", lambda card: card.split == "val"),
    ("q", "IMAGE-01", lambda card: "image-01" in card.image_id),
    ("from", "90", lambda card: card.trust is not None and card.trust >= 0.9),
    ("to", "12.5", lambda card: card.trust is not None and round(100 * card.trust, 1) <= 12.5),
    ("changed", None, lambda card: card.changed),
    ("corrected", None, lambda card: card.is_corrected),
)


def test_a_filter_leaves_what_fits(opened: Open) -> None:
    page = opened()
    for name, value, is_fit in FILTERS:
        field = page.locator(f"#filters [name={name}]")
        if value is None:
            field.check()
        elif field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
        wanted = [shown(card.image_id) for card in CARDS if is_fit(card)]
        assert 0 < len(wanted) < len(CARDS), name
        expect(page.locator("#found")).to_have_text(f"{len(wanted)} of 131 images")
        assert ids(page) == wanted[:PAGE], name
        page.locator("#filters [type=reset]").click()
        expect(page.locator("#found")).to_have_text("131 images")


def test_filters_work_together_and_the_address_remembers_them(opened: Open) -> None:
    page = opened()
    page.locator("[name=class]").select_option("1")
    page.locator("[name=split]").select_option("train")
    page.locator("[name=sort]").select_option("id")
    wanted = sorted(shown(c.image_id) for c in CARDS if 1 in c.tags and c.split == "train")
    assert ids(page) == wanted and "class=1&split=train&sort=id" in page.url
    again = opened("#" + page.url.partition("#")[2])
    assert ids(again) == wanted and again.locator("[name=class]").input_value() == "1"


ORDERS: dict[str, Callable[[Card], Any]] = {
    "trust": lambda card: 2 if card.trust is None else card.trust,
    "iou": lambda card: 101 if card.iou is None else card.iou,
    "changed": lambda card: 1 if card.changed is None else -card.changed,
    "id": lambda card: card.image_id,
}


def test_images_are_in_the_order_that_was_chosen(opened: Open) -> None:
    page = opened()
    assert page.locator("[name=sort]").input_value() == "trust"
    for order, key in ORDERS.items():
        page.locator("[name=sort]").select_option(order)
        page.locator("#more").click()
        page.locator("#more").click()
        assert ids(page) == [shown(card.image_id) for card in sorted(CARDS, key=key)], order
        assert page.locator("#more").is_hidden()


def test_opacity_and_layers_change_the_pixels_of_the_enlarged_image(opened: Open) -> None:
    page = opened()
    page.get_by_role("button", name=f"Enlarge {CARDS[0].image_id}").click()
    wait_for(page, f"{CARDS[0].image_id} published 65")
    size = page.locator("#canvas").bounding_box()
    assert size is not None and size["width"] > 500
    photo, class_1 = [40, 90, 160], class_colours()[1].tolist()
    assert np.abs(np.subtract(pixel(page, 0.2, 0.5), photo)).max() <= 4
    mixed = 0.65 * class_colours()[1] + 0.35 * np.array(photo)
    assert np.abs(np.subtract(pixel(page, 0.8, 0.5), mixed)).max() <= 4
    page.locator("#opacity").fill("100")
    wait_for(page, "published 100")
    assert pixel(page, 0.8, 0.5) == class_1
    over = page.locator("#cards .over").first.evaluate("image => getComputedStyle(image).opacity")
    assert over == "1"
    page.locator("#layers button", has_text="ground truth").click()
    wait_for(page, "ground truth 100")
    assert pixel(page, 0.8, 0.5) == class_colours()[2].tolist()
    page.locator("#outlines").check()
    wait_for(page, "100 true")
    assert pixel(page, 0.505, 0.5) == class_colours()[2].tolist()
    assert np.abs(np.subtract(pixel(page, 0.8, 0.5), photo)).max() <= 4
    page.locator("#canvas").hover()
    assert page.locator("#under").text_content() == CLASSES[1]
    assert page.locator("#told").text_content() and CARDS[0].split in page.inner_text("#told")


def test_the_keyboard_does_it_all(opened: Open) -> None:
    page = opened()
    press = page.keyboard.press
    press("/")
    page.keyboard.type("image")
    assert page.locator("[name=q]").input_value() == "image"
    press("Tab")
    page.locator(".stack").nth(1).focus()
    press("Enter")
    title = page.locator("#title")
    found = [card.image_id for card in CARDS if "image" in card.image_id]
    expect(title).to_have_text(found[1])
    press("ArrowRight")
    press("ArrowRight")
    expect(title).to_have_text(found[3])
    press("ArrowLeft")
    expect(title).to_have_text(found[2])
    press("2")
    wait_for(page, f"{found[2]} ground truth")
    press("ArrowRight")
    wait_for(page, f"{found[3]} ground truth")  # the layer stays
    press("0")
    wait_for(page, f"{found[3]}  65")
    press("-")
    assert page.locator("#opacity").input_value() == "55"
    press("o")
    press("z")
    assert page.locator("#outlines").is_checked()
    assert page.locator("#stage").evaluate("stage => stage.scrollWidth > stage.clientWidth")
    press("?")
    assert page.locator("#keys").evaluate("dialog => dialog.open")
    press("Escape")
    assert page.locator("#viewer").evaluate("dialog => dialog.open")
    press("Escape")
    assert not page.locator("#viewer").evaluate("dialog => dialog.open")
    # The browser gives the focus back to where it was; that the viewer has closed is told after it.
    expect(page.locator(":focus")).to_have_attribute("aria-label", f"Enlarge {found[3]}")


def test_the_address_holds_the_image_that_is_open(opened: Open) -> None:
    page = opened()
    page.get_by_role("button", name=f"Enlarge {CARDS[7].image_id}").click()
    again = opened("#" + page.url.partition("#")[2])
    expect(again.locator("#title")).to_have_text(CARDS[7].image_id)
    again.keyboard.press("Escape")
    expect(again).not_to_have_url(re.compile("image="))


def test_an_address_that_is_edited_while_an_image_is_open_is_followed(opened: Open) -> None:
    page = opened()
    page.locator(".stack[role=button]").nth(50).click()
    viewer = page.locator("#viewer")
    for hash_ in ("q=image-012", "image=gone", "image=failed", "q=nothing%20at%20all"):
        page.evaluate("hash => { location.hash = hash; }", hash_)
        expect(viewer).to_be_hidden()
        page.evaluate("location.hash = 'image=2008%2Fimage-049'")
        expect(page.locator("#title")).to_have_text("2008/image-049")
        expect(viewer).to_be_visible()


def test_commands_are_copied_as_a_shell_takes_them(opened: Open) -> None:
    page = opened()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    told = page.evaluate("navigator.clipboard.readText()")
    assert told == "dcsp export ./store labels demo-1"
    page.locator("[name=q]").fill(NASTY)
    page.locator(".stack[role=button]").click()
    command = page.locator("#explain code").text_content()
    assert command is not None and command.startswith("dcsp explain --run demo-1 ./store -- ")
    assert shlex.split(command)[-1] == NASTY
    page.keyboard.press("Escape")
    page.locator("[name=q]").fill("token=")  # shown without what may be a key
    page.locator(".stack[role=button]").click()
    expect(page.locator("#title")).to_have_text("s3://b/1?token=…")
    assert page.locator("#explain").is_hidden()
    page.keyboard.press("Escape")
    page.locator("[name=q]").fill(NASTY)
    page.locator(".stack[role=button]").click()
    assert page.locator("#explain").is_visible()


def test_a_class_that_only_another_layer_shows_has_its_name(opened: Open) -> None:
    page = opened()
    keys = page.locator(".legend span").all_text_contents()
    assert keys == [*CLASSES, "ignored"]
    page.locator("[name=q]").fill(CARDS[0].image_id)
    page.locator(".stack[role=button]").click()
    page.locator("#layers button", has_text="cue 1").click()
    wait_for(page, "cue 1")
    page.locator("#canvas").hover()
    expect(page.locator("#under")).to_have_text(CLASSES[3])
    told = page.locator("#told").text_content() or ""
    assert "corrected by a person" in told


def test_a_phone_shows_all_of_it(opened: Open) -> None:
    page = opened(viewport=PHONE, has_touch=True, is_mobile=True)
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == PHONE["width"]
    page.locator(".stack[role=button]").nth(5).tap()
    wait_for(page, "published")
    assert page.evaluate(width) == PHONE["width"]
    assert page.locator("#viewer").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


def test_dark_follows_the_system(opened: Open) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page = opened(color_scheme=scheme)
        script = "['backgroundColor', 'color'].map(n => getComputedStyle(document.body)[n])"
        colours.append([sum(map(int, c[4:-1].split(","))) for c in page.evaluate(script)])
    (light_page, light_ink), (dark_page, dark_ink) = colours
    assert light_page > 700 > 200 > light_ink and dark_page < 100 < 600 < dark_ink


def test_without_a_script_every_image_is_there(opened: Open) -> None:
    page = opened(java_script_enabled=False)
    assert ids(page) == [shown(card.image_id) for card in CARDS]
    assert page.locator("#filters").is_hidden() and page.locator("button.copy").first.is_hidden()
    page.locator("#cards").scroll_into_view_if_needed()
    assert page.locator(".panels img").first.is_visible()


def test_no_other_script_runs_and_nothing_is_fetched(browser: Browser, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    page.evaluate(
        """() => {
          const add = (html) => document.body.insertAdjacentHTML("afterbegin", html);
          add('<button id="evil" onclick="window.hit = 1" style="color: red">x</button>');
          const script = document.createElement("script");
          script.textContent = "window.hit = 2";
          document.body.append(script);
        }"""
    )
    page.locator("#evil").click()
    assert page.evaluate("window.hit") is None
    assert page.locator("#evil").evaluate("e => getComputedStyle(e).color") != "rgb(255, 0, 0)"
    fetched = page.evaluate("fetch('data:text/plain,x').then(() => 'yes', () => 'no')")
    assert fetched == "no"
    page.close()


@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)])
def test_axe_finds_nothing_serious(opened: Open, scheme: str, viewport: dict[str, int]) -> None:
    page = opened("#q=image-01", color_scheme=scheme, viewport=viewport)
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    _assert_accessible(page)
    page.locator(".stack[role=button]").first.click()
    wait_for(page, "published")
    _assert_accessible(page)
    page.keyboard.press("?")
    _assert_accessible(page)


def _assert_accessible(page: Page) -> None:
    found = [
        (rule["id"], rule["impact"], [node["html"][:200] for node in rule["nodes"][:3]])
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert found == []
