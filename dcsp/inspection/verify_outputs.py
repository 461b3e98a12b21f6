"""Whether tables have the rows of corpus and manifests, and checkpoints the network they had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from dcsp.errors import DcspError
from dcsp.inspection.findings import Findings
from dcsp.methods.registry import methods
from dcsp.networks.checkpoint import check_network
from dcsp.stages.libraries import makers, mixture
from dcsp.stages.parts import live_rows, stage_version
from dcsp.stages.statuses import Counted, count_statuses, remembered
from dcsp.tables.fingerprint import digest, digest_lines
from dcsp.tables.layout import (
    CARD_FILE,
    CHECKPOINTS,
    COMPLETE_FILE,
    HISTORY_FILE,
    MODEL_FILE,
    STAGE_FILE,
    STATUSES_FILE,
    THRESHOLDS_FILE,
    file_name,
    is_manifest,
    is_output,
    stage_directories,
)
from dcsp.tables.schemas import PREDICTIONS, RULES_SINCE, SCHEMAS, STATUSES, TRUST, corrected
from dcsp.tables.snapshot import Part
from dcsp.text import quantity


def schemas() -> dict[str, pa.Schema]:
    """Table name → schema, those of single cue methods included."""
    return SCHEMAS | {name: s for method in methods() for name, s in method.schemas.items()}


def ids_digest(table: pa.Table) -> str:
    """Digest of the ids of a table in order."""
    return digest_lines(map(str, table["image_id"].to_pylist()))


class OutputChecks:
    """Checks what stages wrote.

    Args:
        findings: Where faults go.
        ids: Corpus part → digest of its ids.
        scopes: Scope in a manifest → the parts it must have.
    """

    def __init__(
        self, findings: Findings, ids: Mapping[str, str], scopes: Mapping[str, list[Part]]
    ) -> None:
        self._findings = findings
        self._store = findings.store
        self._ids = ids
        self._scopes = scopes
        self._unchecked = 0
        self._backbones: list[tuple[str]] = []

    def run(self) -> None:
        """Look at every table and checkpoint."""
        guard = self._findings.guard
        for directory in stage_directories(self._store):
            guard(self._check_output, directory)
        if self._unchecked:
            self._findings.note(
                f"{quantity(self._unchecked, 'network')} without a digest, saved by an earlier "
                "version: whether the weights are as they were is unchecked."
            )
        if mixed := mixture(self._backbones, "training"):
            self._findings.note(
                f"{CHECKPOINTS}: {mixed}: what the library fetches has changed; give the file in "
                "network.weights to have all start from the same."
            )

    def check_aligned(self, name: str, part: str, schema: pa.Schema | None) -> pa.Table:
        """Read a part; returns its column of statuses, small."""
        table = self._findings.read(name, schema)
        if part not in self._ids:
            self._findings.blame(
                f"{name} belongs to no part of any snapshot of the corpus: remove it, or `dcsp gc "
                "STORE --delete` does."
            )
        elif ids_digest(table) != self._ids[part]:
            self._findings.blame(
                f"{name} does not have the rows of its corpus part: remove it and submit the job "
                "again."
            )
        statuses = table.select(["status"])
        strange = set(count_statuses(statuses)) - {*STATUSES}
        if strange:
            self._findings.blame(f"{name} has rows of the unknown status {min(strange)!r}.")
        return statuses.set_column(0, "status", statuses["status"].dictionary_encode())

    def _check_output(self, directory: str) -> None:
        files = self._store.sizes(directory)
        if not is_output(files):
            return
        if STAGE_FILE in files:
            self._findings.guard(self._check_stage, directory)
        else:
            self._findings.blame(
                f"{directory} has no {STAGE_FILE}, which says what decided it: submit the job "
                "again."
            )
        if directory.startswith(f"{CHECKPOINTS}/"):
            self._check_checkpoint(directory, files)
        else:
            self._check_table(directory, files)

    def _check_stage(self, directory: str) -> None:
        name = f"{directory}/{STAGE_FILE}"
        if digest(self._store.read_json(name)) != directory.rpartition("/")[2]:
            self._findings.blame(
                f"{name} is not what decided this output: remove it and submit the job again."
            )

    def _check_table(self, directory: str, files: Mapping[str, int]) -> None:
        schema = self._schema_of(directory)
        statuses: dict[str, pa.Table] = {}

        def check_part(name: str, part: str) -> None:
            statuses[part] = self.check_aligned(name, part, schema)

        for file in sorted(files):
            if file.endswith(".parquet"):
                part = file.removesuffix(".parquet")
                self._findings.guard(check_part, f"{directory}/{file}", part)
        if directory.startswith("selftags/") and THRESHOLDS_FILE not in files:
            self._findings.blame(
                f"{directory} has no {THRESHOLDS_FILE}, which its tags rest on: submit the job "
                "again."
            )
        mixed = mixture((makers(rows) for rows in statuses.values()), "part")
        self._note_mixture(directory, mixed)
        self._findings.guard(self._check_counts, directory, files, statuses)
        for file in sorted(files):
            if is_manifest(file):
                name = f"{directory}/{file}"
                self._findings.guard(self._check_manifest, name, files, statuses)

    def _note_mixture(self, directory: str, mixed: str) -> None:
        if mixed:
            self._findings.note(
                f"{directory}: {mixed}: nothing is damaged; remove it and submit the job again to "
                "have all of it made by one."
            )

    def _schema_of(self, directory: str) -> pa.Schema | None:
        """Schema of a table as the version of its stage wrote it."""
        schema = schemas().get(directory.split("/")[0])
        if schema not in (PREDICTIONS, TRUST):
            return schema
        try:
            version = stage_version(self._store, directory)
            if "corrections" in self._store.read_json(f"{directory}/{STAGE_FILE}")["inputs"]:
                return corrected(schema)
        except (DcspError, KeyError, TypeError):  # told already
            version = 0
        if schema is TRUST:
            return schema
        if version >= RULES_SINCE:
            return schema
        old = [field for field in schema if field.name not in ("rule", "label_network")]
        return pa.schema(old)

    def _check_counts(
        self, directory: str, files: Mapping[str, int], statuses: Mapping[str, pa.Table]
    ) -> None:
        """What is remembered of parts decides what later manifests say."""
        if STATUSES_FILE not in files:
            return
        told = remembered(self._store, directory)
        true = {
            part: Counted.of(files[file_name(part)], count_statuses(rows))
            for part, rows in statuses.items()
        }
        wrong = [part for part, counted in told.items() if counted != true.get(part, counted)]
        if not told or wrong or set(told) - set(self._ids):
            self._findings.blame(
                f"{directory}/{STATUSES_FILE} does not have the rows of its parts: remove it; they "
                "are counted again when they are asked for."
            )

    def _check_manifest(
        self, name: str, files: Mapping[str, int], statuses: Mapping[str, pa.Table]
    ) -> None:
        manifest = self._store.read_json(name)
        complete_for, counted = manifest["snapshot"], manifest["rows"]
        directory = name.rpartition("/")[0]
        if complete_for not in self._scopes:
            self._findings.blame(
                f"{directory} is said to be complete for a corpus that is not there."
            )
            return
        total: Counter[str] = Counter()
        for part in self._scopes[complete_for]:
            if file_name(part.name) not in files:
                self._findings.blame(
                    f"{directory} is said to be complete but lacks the part {part.name}: submit "
                    "the job again."
                )
            if part.name in statuses:
                total.update(count_statuses(live_rows(statuses[part.name], part.dead)))
        if +total != +Counter(counted):
            self._findings.blame(
                f"{directory} has the rows {_told(total)}, but its manifest says {_told(counted)}."
            )

    def _check_checkpoint(self, directory: str, files: Mapping[str, int]) -> None:
        if COMPLETE_FILE not in files:
            return
        self._findings.found.checkpoints += 1
        mark = self._store.read_json(f"{directory}/{COMPLETE_FILE}")
        expected, size = mark.get("bytes"), files.get(MODEL_FILE)
        if size is None or (expected is not None and size != expected):
            self._findings.blame(
                f"{directory}/{MODEL_FILE} has {size or 0} bytes, its mark says {expected}: remove "
                f"{directory} and submit the job again."
            )
            return
        if CARD_FILE not in files:
            self._findings.blame(
                f"{directory} has no {CARD_FILE}, without which its network cannot be read: submit "
                "the job again."
            )
            return
        if fetched := mark.get("backbone"):
            self._backbones.append((fetched,))
        starts = mark.get("libraries", ())
        self._note_mixture(directory, mixture(starts, "start"))
        self._findings.guard(self._check_history, directory, mark.get("history"))
        self._unchecked += not check_network(self._store, directory)

    def _check_history(self, directory: str, expected: str | None) -> None:
        name = f"{directory}/{HISTORY_FILE}"
        if name not in self._findings.files:
            if expected is not None:
                self._findings.blame(f"{name} is gone: reports lack the losses of this training.")
        elif expected not in (None, digest(self._store.read_json(name))):
            self._findings.blame(
                f"{name} is not what this training wrote: remove it; reports then lack its losses."
            )


def _told(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in sorted(rows.items())) or "none"
