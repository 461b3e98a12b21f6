"""Whether a run would make anew much of what the run before it had finished, and why.

A changed setting early in the chain, or another version of dcsp, makes all that follows anew. It
may be meant; where it is not, days of work are done twice. What a corpus that grew, or ``retrain``,
asks for is no loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dcsp.config import RunConfig
from dcsp.errors import ConfigError
from dcsp.inspection.inventory import Difference, Run, differences, read_run
from dcsp.run.plan import Plan
from dcsp.stages.stage import Stage
from dcsp.stages.step import Role, Step
from dcsp.store.store import Store
from dcsp.tables.layout import RUNS, STAGE_FILE, current_run, snapshot_file
from dcsp.tables.snapshot import Snapshot
from dcsp.text import count, shown

FEW = 500
"""Images of a corpus that are computed anew without a question."""
_IDLE = {"min_tag_support", "max_rejected_share", "max_removed_share"}
"""Settings of a corpus that decide no row."""
_CORRECTIONS = "corrections"
"""Name of the input."""
_SHOWN = 3
"""Reasons that are told."""


def check_recompute(store: Store, plan: Plan) -> None:
    """Refuse a run that throws away more than ``max_recompute_share`` of the run before it.

    The run before is the published one, or the last that ended, of the same name: another name, a
    first run and one over few images are never refused. The share is that of images, each counted
    once for every stage that looked at it.

    Args:
        store: The store.
        plan: What would be done.

    Raises:
        ConfigError: It is such a run; the message says what would be made anew and why.
        StoreError: A file cannot be read.
    """
    limit = plan.config.max_recompute_share
    run = _run_before(store, plan.config)
    if limit >= 1 or run is None or run.metrics is None:
        return
    before = _Before(store, plan, run)
    finished = sum(map(before.images, before.steps))
    lost = before.lost()
    again = sum(min(before.images(title), plan.left(store, lost[title])) for title in lost)
    if before.is_large and again > limit * finished:
        reasons = before.reasons()
        more = f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        raise ConfigError(
            f"This run would make anew {', '.join(lost)}: {count(again)} of the {count(finished)} "
            f"images of all stages of the run {run.run_id}, more than max_recompute_share="
            f"{limit:g}, because of {'; '.join(reasons[:_SHOWN])}{more}: set that back, or submit "
            "with max_recompute_share=1, or under another name."
        )


def _run_before(store: Store, config: RunConfig) -> Run | None:
    """The run that has ended under the name of a config: the published one, else the last."""
    names = [name for name in store.list(RUNS) if name.rpartition("-")[0] == config.name]
    current = current_run(store)
    found = [read_run(store, name) for name in names if current not in names or name == current]
    ended = [run for run in found if run is not None and run.metrics is not None]
    return max(ended, key=lambda run: str(run.record.get("created", "")), default=None)


@dataclass(frozen=True)
class _Before:
    """A run that has ended, beside the plan of the next one. Steps are matched by their titles."""

    store: Store
    plan: Plan
    run: Run

    @cached_property
    def steps(self) -> dict[str, Mapping[str, Any]]:
        """Title → what the run says of a step."""
        return {step["title"]: step for step in self.run.record.get("steps", ())}

    @cached_property
    def keys(self) -> dict[str, Mapping[str, Any]]:
        """Title → what decided a step of the run; without those of which that is gone."""
        files = {t: f"{step['directory']}/{STAGE_FILE}" for t, step in self.steps.items()}
        there = {title: file for title, file in files.items() if self.store.exists(file)}
        return {title: self.store.read_json(file) for title, file in there.items()}

    @cached_property
    def learned(self) -> Snapshot | None:
        """What its networks learned from; None where that is gone."""
        fingerprint = self.run.record.get("learned", self.run.record["snapshot"])
        is_there = self.store.exists(snapshot_file(fingerprint))
        return Snapshot.load(self.store, fingerprint) if is_there else None

    @property
    def is_large(self) -> bool:
        """Whether its corpus is worth a question."""
        return self.learned is not None and sum(p.live for p in self.learned.parts) >= FEW

    @property
    def is_kin(self) -> bool:
        """Whether the corpus is that of the run, at another time."""
        return self.learned is None or self.learned.lineage in ("", self.plan.learned.lineage)

    def images(self, title: str) -> int:
        """Images that a step of the run looked at; of a training, in all of its steps."""
        rows = (self.run.metrics or {}).items()
        train = self.keys.get(title, {}).get("settings", {}).get("train", {})
        learned = train.get("steps", 0) * train.get("batch", 0)
        return int(learned or sum(n for key, n in rows if key.startswith(f"rows.{title}.")))

    def lost(self) -> dict[str, Step[Stage]]:
        """Steps that are made anew for another reason than that images or corrections came."""
        grown = {t for t in self._changed if self.is_kin and self._reads_other_images(t)}
        if self._has_other_corrections:
            grown |= {t for t, s in self._changed.items() if self._is_corrected_anew(t, s)}
        stay = self._with_readers(grown)
        return {t: s for t, s in self._with_readers({*self._reasons}).items() if t not in stay}

    def reasons(self) -> list[str]:
        """What is another now than it was, each said once."""
        told: dict[tuple[str, str, str], str] = {}
        for title, found in self._reasons.items():
            for d in found:
                told.setdefault((d.key, str(d.first), str(d.second)), title)
        return [f"{key}: {shown(a, 40)} → {shown(b, 40)} ({t})" for (key, a, b), t in told.items()]

    @cached_property
    def _changed(self) -> dict[str, Step[Stage]]:
        """Title → step that the run had too, with another output."""
        same = {step["fingerprint"] for step in self.steps.values()}
        steps = (step for step in self.plan if step.title in self.keys)
        return {step.title: step for step in steps if step.stage.key.fingerprint not in same}

    @cached_property
    def _reasons(self) -> dict[str, list[Difference]]:
        """Title → what of a changed step itself is another."""
        found: dict[str, list[Difference]] = {}
        for title, step in self._changed.items():
            found[title] = differences(_own(self.keys[title]), _own(step.stage.key.as_dict()))
            if not self.is_kin and self._reads_other_images(title):
                found[title] += self._of_corpus()
        return {title: reasons for title, reasons in found.items() if reasons}

    def _of_corpus(self) -> list[Difference]:
        """Settings that make it another corpus; of another version of dcsp there may be none."""
        now = self.plan.config.model_dump(mode="json")
        pairs = ({"corpus": tree["corpus"]} for tree in (self.run.record["config"], now))
        found = [d for d in differences(*pairs) if d.key.split(".")[1] not in _IDLE]
        return found or [Difference("corpus", self.run.record["snapshot"], "another")]

    def _reads_other_images(self, title: str) -> bool:
        """Whether a step learns from the corpus as a whole, and that is another."""
        made = {step.stage.key.fingerprint for step in self.plan}
        before, now = self.keys[title]["inputs"], self._changed[title].stage.key.inputs
        return any(before.get(name) != value and value not in made for name, value in now.items())

    @property
    def _has_other_corrections(self) -> bool:
        """Whether people have drawn, or taken away, any: of two versions they may be the same."""
        places = self.run.record["config"].get("corrections") or ()
        now = [place.digest for place in self.plan.config.corrections]
        return [place["digest"] for place in places] != now

    def _is_corrected_anew(self, title: str, step: Step[Stage]) -> bool:
        """Whether a step is the table of corrections, or read another one than it does now."""
        before, now = self.keys[title]["inputs"], step.stage.key.inputs
        is_table = step.role is Role.CORRECTIONS
        return is_table or before.get(_CORRECTIONS) != now.get(_CORRECTIONS)

    def _with_readers(self, titles: Set[str]) -> dict[str, Step[Stage]]:
        """Those of the changed steps that have such a title, or read what one of these makes."""
        anew: set[str] = set()
        found = {}
        for step in self.plan:
            if step.title in titles or step.reads & anew:
                anew.add(step.stage.key.fingerprint)
                if step.title in self._changed:
                    found[step.title] = step
        return found


def _own(key: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a step besides the content of its inputs, and whether there are corrections."""
    return {**key, "inputs": sorted({*key["inputs"]} - {_CORRECTIONS})}
