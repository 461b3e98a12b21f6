"""What to do next with a run, as commands to copy."""

from __future__ import annotations

import shlex

from dcsp.report.data import ReportData
from dcsp.report.gallery import command_line
from dcsp.report.markup import Markup, element
from dcsp.tables.snapshot import TRAIN


def next_steps(run: ReportData) -> Markup:
    """The commands of a run, each with what it is for."""
    steps = [
        element("div", element("dt", told), element("dd", command_line(command)))
        for told, command in _commands(run)
    ]
    return element("div", element("dl", steps, class_="steps"), class_="card")


def explain_command(run_id: str, store: str) -> str:
    """What tells of an image, but for its id."""
    return shlex.join(["dcsp", "explain", "--run", run_id, store])


def _commands(run: ReportData) -> list[tuple[str, str]]:
    run_id, store = run.run_id, run.store
    if run.ends_with_cues:
        export = ["dcsp", "export", store, "cues", run_id, "--labels", "cues"]
        return [("Take the cues out as PNG files.", shlex.join(export))]
    steps = [("Take the labels out as PNG files.", ["dcsp", "export", store, "labels", run_id])]
    if run.trust and TRAIN in run.trust["splits"]:
        review = ["dcsp", "review", store, run_id, "--budget", "100", "--out", "review"]
        steps.append(("Have people look at the images where that gains most.", review))
    steps += [
        ("Make this run the published one.", ["dcsp", "publish", store, run_id]),
        ("Go back to the run that was published before.", ["dcsp", "rollback", store]),
    ]
    if run.against:
        diff = ["dcsp", "diff", store, run.against["run"], run_id, "--out", "diff.html"]
        steps.append(("Write a page of all that changed against the run before.", diff))
    return [(told, shlex.join(command)) for told, command in steps]
