"""From image files to a corpus part."""

from __future__ import annotations

from collections.abc import Callable

from dcsp.corpus.reading import read_rows
from dcsp.labels import TagMapper
from dcsp.store.store import Store
from tests.bench.harness import Row, compare
from tests.bench.inputs import Inputs
from tests.bench.peers import pillow_ingest


def ingest(inputs: Inputs) -> Row:
    """Read, decode, check, hash, pack, write."""
    rows = inputs.rows("val", inputs.pick(16, 200))
    store = Store(str(inputs.directory / "ingest"))
    mapper = TagMapper(inputs.classes)

    def ours() -> int:
        corpus, truth, _ = read_rows(inputs.source, rows, mapper, inputs.settings)
        store.write_table("corpus.parquet", corpus)
        store.write_table("truth.parquet", truth)
        return corpus.num_rows

    def peer() -> int:
        path = inputs.directory / "pillow.parquet"
        return pillow_ingest.ingest(rows, inputs.classes, path)

    pair = compare(ours, peer, inputs.pick(3, 7))
    return pair.row(
        "ingest",
        len(rows),
        "image",
        images=f"{len(rows)} {inputs.images} with masks",
        peer_is="Pillow loop writing Parquet",
        processes=1,
        rows={"ours": pair.our_result, "peer": pair.peer_result},
    )


ROWS: dict[str, Callable[[Inputs], Row]] = {"ingest": ingest}
