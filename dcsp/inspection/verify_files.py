"""Files of a store looked at one by one: is each what was once written under its name?"""

from __future__ import annotations

from collections.abc import Callable

from dcsp.errors import DcspError
from dcsp.inspection.findings import Findings
from dcsp.store.ahead import read_ahead
from dcsp.store.lease import LEASE, Holder
from dcsp.store.seal import has_checksum
from dcsp.store.sweep import empty_folders, is_temporary, uploads
from dcsp.tables.layout import COMPARISONS, RESUMABLE, RUNS, STATUSES_FILE
from dcsp.text import quantity
from dcsp.training.loop import state_from_bytes

_STATES = ("here.pt", "state.pt")
_PAGE_ENDS = "</html>"


def check_files(findings: Findings) -> None:
    """Temporary files, JSON, pages, saved states of trainings, and the lease.

    Event logs and the tables of comparisons as text are read by people alone and not looked at.
    """
    names = [name for name in findings.files if not is_temporary(name)]
    _check_leftovers(findings)
    documents = [name for name in names if _is_document(name)]
    with read_ahead(_lacks_checksum(findings), documents) as lacking:
        unsealed = [name for name, lacks in zip(documents, lacking, strict=True) if lacks]
    if unsealed:
        findings.note(
            f"{quantity(len(unsealed), 'JSON file')} without a checksum, {unsealed[0]} first: "
            "written by an earlier version, and unchecked; one of this version is damaged: remove "
            "it and submit the job again."
        )
    for name in names:
        if name.endswith(".html"):
            findings.guard(_check_page, name, findings)
        elif name.startswith(f"{RESUMABLE}/") and name.rpartition("/")[2] in _STATES:
            findings.guard(_check_state, name, findings)
    if LEASE in findings.files:
        findings.guard(_check_lease, LEASE, findings)


def check_other_tables(findings: Findings) -> None:
    """Parquet files that nothing else has read: rows of shards, what the latest ingest refused."""
    for name in findings.files:
        if name.endswith(".parquet") and not is_temporary(name) and name not in findings.read_files:
            findings.guard(findings.read, name, None)


def _check_leftovers(findings: Findings) -> None:
    """What killed writers leave."""
    for name in findings.files:
        if is_temporary(name):
            findings.blame(
                f"{name} is a temporary file: a killed writer left it, or one is at work; where no "
                "job runs, `dcsp gc STORE --delete` removes it."
            )
    try:
        unended = uploads(findings.store)
    except DcspError as error:
        findings.note(f"Uploads that did not end were not looked for: {error}")
        unended = []
    for upload in unended:
        findings.blame(
            f"{upload.name} has an upload that did not end: a killed writer left it, or one is at "
            "work; `dcsp gc STORE --delete` ends those that are older than a day."
        )
    if folders := empty_folders(findings.store):
        findings.note(
            f"{quantity(len(folders), 'empty folder')}, {folders[-1]} first: "
            "`dcsp gc STORE --delete` removes them."
        )


def _is_document(name: str) -> bool:
    """Ray keeps its own beside states; what statuses say is compared with the parts."""
    is_other = name.startswith(f"{RESUMABLE}/") or name.endswith(f"/{STATUSES_FILE}")
    return name.endswith(".json") and not is_other


def _lacks_checksum(findings: Findings) -> Callable[[str], bool]:
    """Reads a JSON file; whether it has no checksum and could have one."""

    def check(name: str) -> bool:
        try:
            tree = findings.store.read_sealed_json(name)
        except DcspError as error:
            findings.blame(str(error))
            return False
        return isinstance(tree, dict) and not has_checksum(tree)

    return check


def _check_page(name: str, findings: Findings) -> None:
    text = findings.store.read_bytes(name).decode(errors="replace").strip()
    of = name.split("/")[1] if name.startswith(f"{RUNS}/") else ""
    if not (text.startswith("<") and text.lower().endswith(_PAGE_ENDS) and of in text):
        cure = (
            "submit `dcsp compare` again"
            if name.startswith(f"{COMPARISONS}/")
            else "`dcsp report STORE RUN --rebuild` writes it anew"
        )
        findings.blame(f"{name} is no whole page, or another run's: {cure}.")


def _check_state(name: str, findings: Findings) -> None:
    training = name.removeprefix(f"{RESUMABLE}/").split("/")[0]
    try:
        state_from_bytes(findings.store.read_bytes(name), training)
    except DcspError as error:
        findings.blame(f"{name}: {error}")


def _check_lease(name: str, findings: Findings) -> None:
    try:
        Holder.parse(findings.store.read_bytes(name))
    except ValueError as error:
        findings.blame(f"{name} is no lease ({error}): where no job runs, remove it.")
