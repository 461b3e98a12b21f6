"""The report: one self-contained HTML page, with nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from dcsp.report.against import against_lead, against_section
from dcsp.report.data import ReportData
from dcsp.report.gallery import gallery
from dcsp.report.markup import Markup, element, join
from dcsp.report.sections import (
    class_table,
    curves,
    findings,
    ladder,
    provenance,
    tables_and_time,
    tiles,
)
from dcsp.report.selftags import selftag_lead, selftag_table
from dcsp.report.steps import explain_command, next_steps
from dcsp.report.style import policy, script, style
from dcsp.report.trust import trust_lead, trust_section
from dcsp.report.verdict import Verdict, judge
from dcsp.text import count


def build_report(run: ReportData) -> str:
    """Write the report of a run.

    Args:
        run: Everything to be shown.

    Returns:
        A whole HTML document; every text is escaped and every picture is inlined.
    """
    verdict = judge(run)
    body = element(
        "main",
        _header(run),
        _verdict(verdict),
        tiles(run),
        section("Next steps", None, next_steps(run)),
        section(
            "Where the quality comes from",
            "Mean IoU at each step of the chain. Cues are what the network learns from; published "
            "labels use the tags that are known, the network alone uses none.",
            ladder(run),
        ),
        section(
            "Class by class",
            "IoU is the overlap of labelled and true region. Precision is the share of what is "
            "labelled so that is right, recall the share of the true region that is found; all in "
            f"percent, for {run.measured}.",
            class_table(run),
        ),
        section("Trust", trust_lead(run.trust) if run.trust else None, trust_section(run)),
        section(
            "Self-tags", selftag_lead(run.selftags) if run.selftags else None, selftag_table(run)
        ),
        section(
            "Against what was published",
            against_lead(run.against) if run.against else None,
            against_section(run),
        ),
        section(
            "Images",
            images_lead(run),
            gallery(run.gallery, run.classes, _explain(run)) if run.gallery else None,
        ),
        section(
            "Training",
            "Losses by step: as logged (faint) and smoothed (strong); the legend gives the last "
            "smoothed value.",
            curves(run),
        ),
        section("Rows and time", None, tables_and_time(run)),
        section(
            "What made this run",
            "A fingerprint digests everything that decides a table: settings, inputs, weights and "
            "seed. Equal fingerprints are equal tables.",
            provenance(run),
        ),
        element("footer", f"dcsp report of {run.run_id}"),
    )
    return document(run.run_id, body, has_script=True)


def images_lead(run: ReportData) -> str:
    """Which images there are, and in which order."""
    shown, every = len(run.gallery), sum(run.images.values())
    told = f"All {count(every)} images"
    if shown < every:
        least = "those that are trusted least, and a random sample" if run.trust else "a sample"
        told = f"{count(shown)} of {count(every)} images: {least}"
    order = ", the least trusted first" if run.trust else ""
    return (
        f"{told}{order}. Choose one to see it large, with its labels, those of the network alone, "
        "its cues and maps, and the ground truth, as far as the page has them."
    )


def _explain(run: ReportData) -> str:
    return "" if run.ends_with_cues else explain_command(run.run_id, run.store)


def document(title: str, body: Markup, more_style: str = "", *, has_script: bool = False) -> str:
    """A whole self-contained HTML page in the look of the report.

    Args:
        title: Of the browser's window, after ``dcsp:``.
        body: What is shown.
        more_style: Style rules beyond the report's.
        has_script: Whether the page has a gallery, and so the script.
    """
    rules, code = style() + more_style, script() if has_script else ""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy(rules, code)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"dcsp: {title}"),
        element("style", Markup(rules)),
    )
    ending = element("script", Markup(code)) if code else None
    page = element("html", head, element("body", body, ending), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _header(run: ReportData) -> Markup:
    splits = ", ".join(f"{count(number)} {split}" for split, number in run.images.items())
    facts = {
        "corpus": run.corpus,
        "images": splits,
        "classes": str(len(run.classes)),
        "finished": run.created,
        "store": run.store,
    }
    return header("pixel labels from image tags", run.run_id, list(facts.items()))


def header(eyebrow: str, title: str, facts: Sequence[tuple[str, str]]) -> Markup:
    """The head of a page: what it is, of what, and name and value of what else is told."""
    spans = [element("span", f"{name} ", element("b", value)) for name, value in facts if value]
    return element(
        "header",
        element("p", f"dcsp · {eyebrow}", class_="eyebrow"),
        element("h1", title),
        element("p", spans, class_="facts"),
    )


def _verdict(verdict: Verdict) -> Markup:
    return element(
        "section",
        element(
            "div",
            element("p", "How far to trust this", class_="eyebrow"),
            element("h2", verdict.headline),
            element("p", verdict.summary),
        ),
        findings(verdict.statements),
        class_=f"verdict {verdict.level}",
    )


def section(title: str, lead: str | None, content: Markup | None) -> Markup | None:
    """A heading, a paragraph that introduces, and the content; None where there is none."""
    if content is None:
        return None
    introduction = element("p", lead, class_="lead") if lead else None
    return join(element("h2", title), introduction, content)
