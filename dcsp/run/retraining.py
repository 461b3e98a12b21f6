"""Whether a corpus that has changed calls for new networks, or those of the last run stay."""

from __future__ import annotations

from dcsp.config import RunConfig
from dcsp.run.plan import Plan, build_plan
from dcsp.run.record import learned_of
from dcsp.store.store import Store
from dcsp.tables.layout import current_run
from dcsp.tables.snapshot import TRAIN, Snapshot


def plan_run(store: Store, config: RunConfig, snapshot: Snapshot) -> Plan:
    """The plan of a run whose networks are trained anew as ``retrain`` asks.

    The networks of the published run stay only if they are what this config would train on its
    corpus: a changed setting always trains anew, on all that there is.

    Raises:
        CorpusError: The snapshot has no image to learn from, or none with a tag.
        WeightsError: Named weights are unknown or are not there.
    """
    last = _last_learned(store, config, snapshot)
    if last is not None:
        plan = build_plan(config, snapshot, last)
        if all(plan.is_done(store, step) for step in plan.trainings):
            return plan
    return build_plan(config, snapshot)


def new_share(snapshot: Snapshot, learned: Snapshot) -> float:
    """Training images that came since networks were trained, per image that they learned from."""
    return max(0, snapshot.added - learned.added) / max(1, learned.rows([TRAIN]))


def _last_learned(store: Store, config: RunConfig, snapshot: Snapshot) -> Snapshot | None:
    """What the published run learned from, where the policy lets it stand for the snapshot."""
    if config.retrain == "every" or current_run(store) is None:
        return None
    last = learned_of(store)
    if last.lineage != snapshot.lineage:
        return None
    stays = config.retrain == "never" or new_share(snapshot, last) <= config.retrain
    return last if stays else None
