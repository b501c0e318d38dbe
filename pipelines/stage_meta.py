"""What dvc.yaml says in a stage's ``meta:`` about running it. DVC ignores it, and it changes no result."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from components.core.errors import InputError
from components.params.reading import nearest

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def _in_seconds(value: Any) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)", str(value))
    if not match or not float(match[1]):
        raise ValueError("expected a time with its unit, such as 90s, 30min, 36h or 2d")
    return float(match[1]) * _SECONDS[match[2]]


_Duration = Annotated[float, BeforeValidator(_in_seconds)]  # written with a unit, kept in seconds


class StageMeta(BaseModel):
    """How a stage wants to be run.

    Attributes:
        gpus: GPUs it needs, ``all`` for every one; a machine with fewer gives what it has.
        cpus: processor cores to keep for it on a machine of a cluster, ``all`` for every one.
        memory_heavy: whether to run it beside no other such stage.
        deadline: seconds after which an attempt is stopped and has failed; None is no limit.
        retries: further attempts after a failure that may pass, unlike bad input.
        retry_delay: seconds before the first of them, doubled for each further one.
        may_fail: whether stages below it go on without its results if it has none.
        tags: for Prefect.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    gpus: Annotated[int, Field(ge=0)] | Literal["all"] = 0
    cpus: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    memory_heavy: bool = False
    deadline: _Duration | None = None
    retries: Annotated[int, Field(ge=0)] = 0
    retry_delay: _Duration = 30.0
    may_fail: bool = False
    tags: tuple[str, ...] = ()


NO_META = StageMeta()


def read_meta(stage: str, written: Any) -> StageMeta:
    """Check a stage's ``meta``, as YAML gives it.

    Raises:
        InputError: names the stage, the key, and what was expected.
    """
    values = dict(written or {})
    if isinstance(values.get("tags"), list):
        values["tags"] = tuple(map(str, values["tags"]))
    try:
        return StageMeta(**values)
    except ValidationError as error:
        detail = error.errors()[0]
        key = str(detail["loc"][0])
        if detail["type"] == "extra_forbidden":
            hint = f"unknown key{nearest(key, StageMeta.model_fields)}"
        else:
            hint = f"{detail['msg'].removeprefix('Value error, ')}, found {detail['input']!r}"
        raise InputError(f"dvc.yaml: stage {stage}: meta.{key}: {hint}") from None
