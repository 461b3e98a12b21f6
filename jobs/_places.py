"""Where a submitted job reads and writes: what is relative there lies in a folder of Ray's."""

from __future__ import annotations

import os
from pathlib import Path

from dcsp.config import RunConfig
from dcsp.errors import ConfigError

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variable that Ray sets for the entrypoint of a submitted job, and for nothing else."""
RAYS_FOLDER = "working_dir_files"
"""Part of the path of the folder that Ray unpacks the working directory of a submitted job in."""


def check_places(config: RunConfig) -> None:
    """See that a submitted job reads and writes where something is, and stays.

    Raises:
        ConfigError: It does not.
    """
    corpus = config.corpus
    require_lasting("store", config.store)
    for name, places in (
        ("corpus.root", [corpus.root]),
        ("corpus.masks", [corpus.masks]),
        ("corpus.tags", corpus.tags),
        ("saliency.maps", config.saliency.maps),
        ("corrections", [place.place for place in config.corrections]),
    ):
        for place in filter(None, places):
            require_there(name, place)


def require_lasting(name: str, place: str) -> None:
    """See that a submitted job does not write into the folder that Ray runs it in.

    Raises:
        ConfigError: It would, and lose what it has done.
    """
    if _is_rays(place):
        raise ConfigError(
            f"{name}={place} lies in the folder that Ray runs this submitted job in, and is lost "
            "with it: give s3://bucket/prefix, or a whole path that every node has."
        )


def require_there(name: str, place: str) -> None:
    """See that what a submitted job reads by a relative path was submitted with it.

    Raises:
        ConfigError: It was not.
    """
    if _is_rays(place) and not Path(place).exists():
        raise ConfigError(
            f"{name}={place} is not in the folder that Ray runs this submitted job in: give "
            "s3://bucket/prefix, or a whole path that every node has."
        )


def _is_rays(place: str) -> bool:
    if SUBMITTED not in os.environ or "://" in place:
        return False
    return not Path(place).is_absolute() or RAYS_FOLDER in Path(place).parts
