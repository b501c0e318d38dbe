"""What a stage asks of the machine that runs it, as resources that Dask counts."""

from collections.abc import Iterable, Mapping

from pipelines.stage_meta import StageMeta

GPU, CPU, MEMORY = "GPU", "CPU", "MEMORY"


def demands(meta: StageMeta, machines: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The resources to reserve for a stage: what it asks for, or the largest of these machines' all.

    Args:
        meta: of the stage. ``all`` GPUs or cores are those of the machine that has most.
        machines: resources of the workers.

    A machine without GPUs runs the stage without, as ``virtex run`` does; so a cluster without GPUs does.
    """
    wanted = {
        GPU: float("inf") if meta.gpus == "all" else float(meta.gpus),
        CPU: float("inf") if meta.cpus == "all" else float(meta.cpus),
        MEMORY: float(meta.memory_heavy),
    }
    granted = [
        {name: min(most, machine.get(name, 0)) for name, most in wanted.items()} for machine in machines
    ]
    best = max(granted, key=lambda grant: (grant[GPU], grant[CPU], grant[MEMORY]), default={})
    return {name: number for name, number in best.items() if number}
