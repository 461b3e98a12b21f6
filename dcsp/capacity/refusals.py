"""What a cluster cannot run is refused before anything is started: arithmetic alone, without Ray.

Ray waits for ever, without a word, for a node that could hold what was asked of it. Each refusal is
one line that names the setting to change.
"""

from __future__ import annotations

from dcsp.capacity.resources import TASK_CPUS, Resources, worker_size
from dcsp.config import ClusterSettings
from dcsp.errors import ClusterError, ConfigError
from dcsp.run.plan import Plan
from dcsp.text import size


def check(
    resources: Resources, settings: ClusterSettings, *, mines: bool, trainings: Plan | None
) -> None:
    """Refuse a job that is known to wait for ever.

    Args:
        resources: Of the cluster.
        settings: Of the run.
        mines: Whether the job makes tables image by image.
        trainings: The plan whose networks the job trains; None: it trains none.

    Raises:
        ClusterError: It would wait for ever for what the cluster has not.
        ConfigError: A training has fewer images a step than workers.
    """
    check_tasks(resources, settings)
    if mines:
        check_actors(resources, settings)
    if trainings is not None:
        resources.check_training_fits(settings)
        check_batches(resources, settings, trainings)


def check_batches(resources: Resources, settings: ClusterSettings, plan: Plan) -> None:
    """Refuse a plan with a training, of whatever network, that has fewer images than workers.

    Raises:
        ConfigError: There is one; the message names its block of settings.
    """
    workers = resources.training_workers(settings)
    for step in plan.trainings:
        recipe = step.stage.recipe
        if recipe.settings.batch < workers:
            raise ConfigError(
                f"{recipe.block}.batch={recipe.settings.batch} images cannot be shared by "
                f"{workers} workers of the training {step.title}: raise {recipe.block}.batch, or "
                "lower cluster.train_workers."
            )


def check_tasks(resources: Resources, settings: ClusterSettings) -> None:
    """Refuse a cluster without a node that can run a task, or without the GPU that is asked for.

    Raises:
        ClusterError: It is such a cluster.
    """
    if settings.use_gpu and not resources.gpus:
        raise ClusterError(
            f"cluster.use_gpu is true and the cluster has no GPU ({resources.described}): add "
            "nodes with GPUs, or leave cluster.use_gpu out to run on CPUs."
        )
    if resources.widest < TASK_CPUS:
        raise ClusterError(
            "No node of the cluster has a whole CPU "
            f"({resources.described}): tasks would wait for ever; join nodes that have one "
            "(ray start --num-cpus), or name another cluster in cluster.address."
        )


def check_actors(resources: Resources, settings: ClusterSettings) -> None:
    """Refuse more model actors than nodes hold, and those that leave no CPU to anything else.

    Raises:
        ClusterError: ``cluster.actors`` is too large for this cluster.
    """
    actors = settings.actors or resources.mining_actors(settings, parts=10**9)
    if settings.actors and not resources.gpus and actors > 1 and actors >= resources.cpus:
        most = max(1, int(resources.cpus) - 1)
        raise ClusterError(
            f"cluster.actors={actors} would take all {resources.cpus:g} CPUs of the cluster and "
            f"leave none to read, fuse and write: set it to {most} or less, or leave it out."
        )
    options = resources.actor_options(actors)
    cpus, gpus = options["num_cpus"], options.get("num_gpus", 0.0)
    room = resources.room(cpus, gpus)
    if actors > room:
        cure = f"set cluster.actors to {room} or less" if room else "add nodes that hold one"
        raise ClusterError(
            f"{actors} model actors of {worker_size(cpus, gpus)} each want a place on one node "
            f"each, and the nodes hold {room} ({resources.described}): the others would wait for "
            f"ever; {cure}."
        )


def check_parts(resources: Resources, largest: int) -> None:
    """Refuse a corpus of which a part does not fit into the memory it travels through.

    Args:
        resources: Of the cluster.
        largest: Bytes of the largest part.

    Raises:
        ClusterError: The object store of a node is smaller.
    """
    store = resources.object_store
    if store is not None and largest > store:
        raise ClusterError(
            f"The largest part of the corpus has {size(largest)}, and the object store "
            f"of a node {size(store)}: it could never be read; lower corpus.part_rows "
            "and ingest again, or give nodes more (ray start --object-store-memory)."
        )


def check_memory(resources: Resources, title: str, workers: int, each: float, setting: str) -> None:
    """Refuse workers of a stage that do not fit the memory of the nodes.

    Args:
        resources: Of the cluster.
        title: Of the stage.
        workers: How many.
        each: Bytes that one was seen to have.
        setting: That says how many there are.

    Raises:
        ClusterError: All of them have more than the nodes, or one has more than any node.
    """
    have, most = resources.memory, resources.largest_memory
    if have is None or most is None:
        return
    fitting = int(have // each)
    if each > most or workers > fitting:
        cure = f"set {setting} to {fitting} or less" if each <= most else "add nodes with more"
        raise ClusterError(
            f"{title}: {workers} process(es) of {size(each)} each, as the probe had, do "
            f"not fit the {size(have)} of memory of the nodes ({resources.described}): "
            f"{cure}."
        )
