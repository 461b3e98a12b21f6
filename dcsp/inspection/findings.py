"""What a look at a store found, and how every check of it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec

import pyarrow as pa

from dcsp.errors import DcspError, StoreError
from dcsp.store.store import Store

P = ParamSpec("P")


@dataclass
class Verification:
    """What was looked at and what was wrong.

    Attributes:
        parts: Parquet files read.
        rows: Their rows.
        checkpoints: Networks looked at.
        problems: One sentence for each fault; empty for a store that is whole.
        notes: What is no fault and worth knowing, such as files that nothing can be said of.
    """

    parts: int = 0
    rows: int = 0
    checkpoints: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Findings:
    """A store and what was found in it so far.

    Args:
        store: The store.
        on_part: Called after each Parquet file.
    """

    def __init__(self, store: Store, on_part: Callable[[], None]) -> None:
        self.store = store
        self.files = store.files()
        self.found = Verification()
        self.read_files: set[str] = set()
        """Parquet files that were read, or could not be."""
        self._on_part = on_part

    def blame(self, problem: str) -> None:
        """Tell of a fault, once."""
        if problem not in self.found.problems:
            self.found.problems.append(problem)

    def note(self, text: str) -> None:
        """Tell of what is no fault."""
        self.found.notes.append(text)

    def guard(self, check: Callable[P, object], *args: P.args, **options: P.kwargs) -> None:
        """Make a check; what it raises is a fault like another."""
        try:
            check(*args, **options)
        except DcspError as error:
            self.blame(str(error))
        except (AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
            self.blame(f"{args[0]} does not say what it should ({type(error).__name__}: {error}).")

    def read(self, name: str, schema: pa.Schema | None) -> pa.Table:
        """Read a Parquet file whole.

        Raises:
            StoreError: It is not there, cannot be read, or lacks a column of the schema.
        """
        if name not in self.files:
            raise StoreError(
                f"The store {self.store.url} has no {name}, which its snapshot names: submit the "
                "job again."
            )
        if name not in self.read_files:
            self._on_part()
        self.read_files.add(name)
        table = self.store.read_table(name, schema.names if schema else None)
        self.found.parts += 1
        self.found.rows += table.num_rows
        return table
