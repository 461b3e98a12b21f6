"""What every cue stage is: images with tags in, rows of a cue table out.

A cue method's stage says which rows it can do, what its network makes of an image, and how that
becomes a label; reading, batching, statuses, self-tags and the table are here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dcsp.config import RunConfig
from dcsp.cues.table import CueImages, CueRow, CueWriter, cue_key, tagged_corpus
from dcsp.errors import ConfigError
from dcsp.inference.multiscale import prepare
from dcsp.networks.checkpoint import load_checkpoint
from dcsp.networks.model import Model
from dcsp.stages.parts import TableInput
from dcsp.stages.rows import RowResults, infer_rows
from dcsp.stages.stage import Device, PartModel, TableStage
from dcsp.store.store import Store
from dcsp.tables.codecs import pack_array
from dcsp.tables.fingerprint import StageKey
from dcsp.tables.schemas import CUES, OK, SKIPPED

Net = TypeVar("Net", bound=Model)
Row = dict[str, Any]
Infer = Callable[[list[NDArray[np.uint8]], list[Row]], Sequence[bytes]]
"""Images (HWC uint8 RGB) of like size, and their rows without bytes → a packed result each."""


def one_by_one(look: Callable[[NDArray[np.uint8], Row], NDArray[Any]]) -> Infer:
    """What looks at each image by itself."""

    def infer(images: list[NDArray[np.uint8]], rows: list[Row]) -> list[bytes]:
        return [pack_array(look(image, row)) for image, row in zip(images, rows, strict=True)]

    return infer


class Relabelling(NamedTuple):
    """Other labels from what a cue table holds, to be measured beside its own.

    Attributes:
        inputs: What :attr:`label` reads; ``start`` is the cue table.
        label: Row of these → HW uint8 label map, at the size the network saw the image at.
    """

    inputs: tuple[TableInput, ...]
    label: Callable[[Row], NDArray[np.uint8]]


class CueStage(TableStage):
    """A table of cues; subclasses are frozen dataclasses.

    Attributes:
        config: Settings of the run.
        phase: From 0.
        selftags: Key of the self-tags to mine by; None: by given tags.
    """

    config: RunConfig
    phase: int = 0
    selftags: StageKey | None = None

    schema = CUES

    @property
    @abstractmethod
    def method(self) -> str:
        """Name in the table."""

    @property
    @abstractmethod
    def given_key(self) -> StageKey:
        """What decides the cues by given tags."""

    @property
    def own_inputs(self) -> tuple[TableInput, ...]:
        """What is read beside the corpus."""
        return ()

    @property
    def needs_image(self) -> bool:
        """Whether :meth:`cue` looks at the image again, for a CRF say."""
        return False

    @property
    def spent(self) -> tuple[str, ...]:
        """Inputs that :meth:`cue` does not look at: they do not travel on."""
        return ()

    def wants(self, row: Row) -> bool:
        """Whether the network is to look at the image of a row; by default at all with tags."""
        return bool(row["tags"])

    def load_infer(self, store: Store, device: Device) -> Infer | None:
        """Load the network that looks at images, on the worker that will use it.

        None, as here: there is no network, and :meth:`cue` does all of the work.
        """
        return None

    @abstractmethod
    def cue(self, row: Row) -> CueRow:
        """The cue of a row: its inputs, and ``raw`` with what a network made, or None."""

    def by_selftags(self, selftags: StageKey) -> tuple[CueStage, ...]:
        """The same cues by self-tags, last, and those that it starts from, by them too."""
        return (self.with_selftags(selftags),)

    def with_selftags(self, selftags: StageKey) -> Self:
        """This stage alone by self-tags.

        Raises:
            ConfigError: It has no field for them.
        """
        if "selftags" not in {field.name for field in fields(self)}:  # type: ignore[arg-type]
            raise ConfigError(
                f"The cues of a {type(self).__name__} cannot be mined by self-tags: "
                "set selftags.use=never."
            )
        return replace(self, selftags=selftags)  # type: ignore[type-var]

    def first_pass(self) -> Relabelling | None:
        """The same cues by S_1 in place of S_k; None where no hierarchy of saliency made them."""
        return None

    @cached_property
    def images(self) -> CueImages:
        """How images are seen."""
        return CueImages.of(self.config)

    @cached_property
    def key(self) -> StageKey:
        """What decides the cues, self-tags included."""
        return cue_key(self.given_key, self.selftags)

    @property
    def inputs(self) -> tuple[TableInput, ...]:
        """The corpus, and what else is read."""
        return (*tagged_corpus(self.selftags), *self.own_inputs)

    def load(self, store: Store, device: Device) -> PartModel:
        """Load the network; the model adds its results to the rows."""
        infer = self.load_infer(store, device)
        dropped = list(self.spent if self.needs_image else ("bytes", *self.spent))

        def model(rows: pa.Table) -> pa.Table:
            light = rows.drop_columns("bytes")

            def row(number: int) -> Row:  # one at a time: inputs may hold maps
                return dict(light.slice(number, 1).to_pylist()[0])

            wanted = [self.wants(row(number)) for number in range(rows.num_rows)]
            if infer is None:
                status = pa.array([OK if is_wanted else SKIPPED for is_wanted in wanted])
                none = RowResults[bytes](rows.num_rows).onto(rows.drop_columns(dropped))
                return none.drop_columns("status").append_column("status", status)
            results = infer_rows(
                rows,
                self.images.decode,
                lambda images, numbers: infer(images, list(map(row, numbers))),
                wanted=wanted,
                device=device,
            )
            return results.onto(rows.drop_columns(dropped))

        return model

    def finish(self, rows: pa.Table) -> pa.Table:
        """From raw results to labels, row by row."""
        writer = CueWriter(self.method, self.phase)
        for row in rows.to_pylist():
            writer.add(row, row["status"], self.cue(row))
        return writer.table()

    def network_of(self, key: StageKey, kind: type[Net], store: Store, device: Device) -> Net:
        """A trained network, ready to look at images."""
        network = load_checkpoint(store, key.directory, kind)
        return prepare(network, self.images.precision, device.name)


class EvidenceStage(CueStage):
    """Cues that also tell how strongly each pixel belongs to each tag: others can start from them.

    Its table holds ``attention``, from which :meth:`evidence` is made again.
    """

    @property
    def evidence_inputs(self) -> tuple[TableInput, ...]:
        """What :meth:`evidence` reads beside the corpus; ``start`` is the stage's own table."""
        columns = ("attention", "attention_shape", "status", "error")
        return (TableInput("start", self.key.directory, columns),)

    @abstractmethod
    def evidence(self, row: Row) -> NDArray[np.float32]:
        """Evidence of the tags of one row, whose cue must be there.

        Args:
            row: Corpus columns, and those of :attr:`evidence_inputs`.

        Returns:
            nHW in [0, 1], one map a tag, at the size the network saw the image at.
        """
