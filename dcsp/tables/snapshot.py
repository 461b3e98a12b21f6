"""Snapshots: an ordered list of parts is a corpus at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Final

from dcsp.errors import StoreError
from dcsp.store.store import Store
from dcsp.tables.fingerprint import digest, digest_lines
from dcsp.tables.layout import snapshot_file

SNAPSHOT_VERSION = 1
TRAIN: Final = "train"
"""Split that cues are mined of and networks learn from."""
VAL: Final = "val"
"""Split of images that no network learns from."""


@dataclass(frozen=True)
class Part:
    """One part of a corpus.

    Attributes:
        name: Digest of its rows.
        rows: Number of its rows, which every table has.
        dead: Positions of rows that are no longer part of the corpus, ascending.
    """

    name: str
    rows: int
    dead: tuple[int, ...] = ()

    @property
    def live(self) -> int:
        """Number of rows that are part of the corpus."""
        return self.rows - len(self.dead)


@dataclass(frozen=True)
class CorpusPart:
    """One part of a corpus.

    Attributes:
        name: Digest of its rows.
        split: ``"train"`` or ``"val"``; all rows of a part are of one split.
        rows: Number of rows.
        truth: File of its ground-truth masks in the store; ``None`` where the source has none.
        dead: Positions of rows that are no longer part of the corpus, ascending: their images were
            removed or replaced after the part was written.
    """

    name: str
    split: str
    rows: int
    truth: str | None = None
    dead: tuple[int, ...] = ()

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> CorpusPart:
        """The part that a record or a snapshot tells of, as :meth:`as_dict` has it."""
        return cls(**{**told, "dead": tuple(told.get("dead", ()))})

    @cached_property
    def part(self) -> Part:
        """What tables know of it."""
        return Part(self.name, self.rows, self.dead)

    @property
    def live(self) -> int:
        """Number of rows that are part of the corpus."""
        return self.part.live

    def as_dict(self) -> dict[str, Any]:
        """The part as JSON has it."""
        told = asdict(self)
        return told if self.dead else {name: told[name] for name in told if name != "dead"}


ALL_MASKS: Final = 0
"""Among the ids that do not fit: those of all masks."""


@dataclass(frozen=True)
class Masks:
    """What ingest found of the masks of a corpus, all together.

    Attributes:
        usable: Masks of class ids, of the size of their images.
        unfit: Ids that mean another class than they should, or ``ALL_MASKS``: no figure is made of
            masks that show one.
        left_out: Masks that do.
        told: A sentence on them; empty where all fit.
        idle: Masks that are called like no image.
    """

    usable: int = 0
    unfit: tuple[int, ...] = ()
    left_out: int = 0
    told: str = ""
    idle: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A corpus at one moment.

    Attributes:
        classes: Class names in id order, background left out.
        parts: Parts in order.
        rejected: Number of rejected rows.
        counts: Training images of each class, by name; empty where nobody counted.
        lineage: Names the source and the settings that it was ingested with: snapshots of one
            lineage followed one upon the other.
        added: Training images ever added in its lineage, replaced and removed ones included.
        masks: What was found of its masks; of earlier versions nothing.
    """

    classes: tuple[str, ...]
    parts: tuple[CorpusPart, ...]
    rejected: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    lineage: str = ""
    added: int = 0
    masks: Masks = Masks()

    @property
    def fingerprint(self) -> str:
        """Digest of the classes, the ordered parts, their masks and their dead rows."""
        return digest(
            {
                "version": SNAPSHOT_VERSION,
                "classes": list(self.classes),
                "parts": digest_lines(f"{p.split}/{p.name}/{p.truth}" for p in self.parts),
                "tombstones": digest_lines(_tombstones(self.parts)),
            }
        )

    def of(self, splits: Sequence[str]) -> list[Part]:
        """The parts of some splits, in order."""
        return [part.part for part in self.parts if part.split in splits]

    def learned_from(self, splits: Sequence[str]) -> str:
        """Fingerprint of what a stage that learns from whole splits reads of the corpus.

        Ground truth is left out: no training depends on it.
        """
        parts = [part for part in self.parts if part.split in splits]
        names = digest_lines(part.name for part in parts)
        return digest([list(self.classes), names, digest_lines(_tombstones(parts))])

    def rows(self, splits: Sequence[str]) -> int:
        """Number of images of some splits."""
        return sum(part.live for part in self.of(splits))

    @property
    def is_untagged(self) -> bool:
        """Whether it is known that no training image has a tag."""
        return bool(self.counts) and not any(self.counts.values())

    @property
    def unseen(self) -> tuple[str, ...]:
        """Classes that no training image is known to show, in id order."""
        return tuple(name for name in self.classes if self.counts.get(name) == 0)

    def save(self, store: Store) -> None:
        """Write the snapshot; one of the same fingerprint differs at most in how it came about."""
        told = {name: value for name, value in vars(self).items() if name != "parts"}
        told["masks"] = asdict(self.masks)
        content = {"version": SNAPSHOT_VERSION, **told, "parts": [p.as_dict() for p in self.parts]}
        store.write_json(snapshot_file(self.fingerprint), content)

    @classmethod
    def load(cls, store: Store, fingerprint: str) -> Snapshot:
        """Read a snapshot.

        Raises:
            StoreError: There is none of that fingerprint, or it is of another version.
        """
        file = snapshot_file(fingerprint)
        tree: Any = store.read_json(file)
        try:
            if tree["version"] != SNAPSHOT_VERSION:
                raise ValueError(f"version {tree['version']}, expected {SNAPSHOT_VERSION}")
            return cls(
                classes=tuple(tree["classes"]),
                parts=tuple(map(CorpusPart.of, tree["parts"])),
                rejected=tree["rejected"],
                counts=tree["counts"],
                lineage=tree.get("lineage", ""),
                added=tree.get("added", 0),
                masks=_masks(tree.get("masks", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{store.path(file)} is no snapshot that this version of dcsp reads ({error}): use "
                "the version that wrote it, or remove it and ingest again."
            ) from error


def _masks(told: Mapping[str, Any]) -> Masks:
    return Masks(**{**told, "unfit": tuple(told.get("unfit", ()))})


def _tombstones(parts: Iterable[CorpusPart]) -> Iterator[str]:
    return (f"{part.name}/{row}" for part in parts for row in part.dead)
