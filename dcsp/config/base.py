"""What every block of settings shares."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from dcsp.config.text import user_path
from dcsp.errors import ConfigError
from dcsp.text import holds_credentials

HOLDS_SECRET = "holds_secret"
"""Type of the error for a value that must not be shown."""


def _without_credentials(url: str) -> str:
    if holds_credentials(url):
        raise PydanticCustomError(
            HOLDS_SECRET,
            "its URL holds credentials, which the run would write down: leave them to the "
            "environment (AWS_ACCESS_KEY_ID, …)",
        )
    return url


def _expanded(url: str) -> str:
    try:
        return user_path(url)
    except ConfigError as error:
        raise ValueError(str(error).rstrip(".")) from None


def _file_or_bucket(url: str) -> str:
    if "::" in url or re.match("https?:", url, re.IGNORECASE):
        raise ValueError("images and tables are on disks or in buckets (s3://…): copy them there")
    return url


def listed(value: Any) -> Any:
    """One value is a list of one, none an empty list."""
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def whole(value: Any) -> Any:
    """A whole number that was written as text, where a choice of numbers cannot read one."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Unit = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
Scales = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
Url = Annotated[str, AfterValidator(_without_credentials), AfterValidator(_expanded)]
"""A name, a path or a URL, which a run writes down: it must hold no secret. ``~`` is expanded."""
Place = Annotated[Url, AfterValidator(_file_or_bucket)]
"""A path, or a URL of an object store."""
Source = Literal["fcan", "probabilities"]
"""What a network says of a class: its attention, or the softmax of its scores."""
Fuse = Literal["max", "mean"]
"""How views of an image are fused, pixel by pixel."""


class Settings(BaseModel):
    """Base of every block of settings: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    later: ClassVar[frozenset[str]] = frozenset()
    """Settings that came after stores were written."""

    def decisive(self, idle: Set[str] = frozenset()) -> dict[str, Any]:
        """What decides an output, as JSON values: later settings only where they are used.

        So an output of earlier versions keeps its fingerprint.

        Args:
            idle: Settings that do not decide it.
        """
        fields = type(self).model_fields
        unused = {name for name in self.later if getattr(self, name) == fields[name].default}
        return self.model_dump(mode="json", exclude={*idle, *unused})
