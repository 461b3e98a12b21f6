"""What a run must be before it is published, and who is told.

Nothing here is in a fingerprint or in the id of a run: a changed gate computes nothing.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from dcsp.config.base import HOLDS_SECRET, Settings, Unit

Policy = Literal["gated", "always", "never"]
Points = Annotated[float, Field(ge=0.0, le=100.0)]


class GateSettings(Settings):
    """Limits that the figures of a run must keep to; those that are left out are no limits.

    A figure that is not known does not keep to its limit. The last two compare with the published
    run, and let the first run of a store pass.
    """

    min_miou: Points | None = None
    """Least mIoU, in percent, of the published labels against the masks: of the validation split,
    where that has masks, else of the training split. Against labels that have become bad."""
    min_expected_miou: Points | None = None
    """Least mIoU, in percent, that the run expects of its labels without any mask. The same, for
    a corpus without masks."""
    min_tag_consistency: Unit | None = None
    """Least share of the tagged images that have pixels of each of their tags. Against a network
    that no longer sees some classes."""
    max_rejected_share: Unit | None = None
    """Largest share of the images that ingest could not use. Tighter than
    ``corpus.max_rejected_share``, which ends the job: against a source that is going bad."""
    max_failed_share: Unit | None = None
    """Largest share of rows in error, in the table that has most. Against nodes and libraries that
    cannot read what ingest could."""
    max_changed_share: Unit | None = None
    """Largest share of an image's pixels with another label than in the published run, in the mean
    over the images that both have. Against a night that turns everything over."""
    max_miou_drop: Points | None = None
    """Largest fall of the measured mIoU below that of the published run, in points. Against many
    small steps down."""


def _is_command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise PydanticCustomError(HOLDS_SECRET, "a quote in it does not close") from error
    if not words:
        raise PydanticCustomError(HOLDS_SECRET, "it is empty: name a program, or null")
    return text


def _is_web_address(text: str) -> str:
    try:
        found = urlsplit(text)
        is_good = found.scheme in ("http", "https") and bool(found.hostname) and "@" not in text
        _ = found.port
    except ValueError:
        is_good = False
    if not is_good or not text.isprintable() or not text.isascii() or " " in text:
        raise PydanticCustomError(
            HOLDS_SECRET, "write an address such as https://host/path, without a user and password"
        )
    return text


class NotifySettings(Settings):
    """Who is told that a run was published or refused, or that a job failed; never written down.

    Either may hold a secret, as addresses of webhooks do.
    """

    command: Annotated[str, AfterValidator(_is_command)] | None = None
    """A command line, without a shell: no variables, no ``~``, no pipes. The program gets the event
    as JSON on standard input, and has 30 s."""
    url: Annotated[str, AfterValidator(_is_web_address)] | None = None
    """Address that the event is sent to as JSON (POST), within 5 s, twice at most."""
