"""Types of the flow's parameters: what the Prefect page offers, and what its server refuses."""

from typing import Annotated

from pydantic import Field, WithJsonSchema

from components.params import list_presets


def _preset_schema() -> dict[str, object]:
    """One of the presets that there are when the flow is loaded; any text if there are none."""
    presets = list_presets()
    return {"type": "string", "enum": presets} if presets else {"type": "string"}


Preset = Annotated[str, WithJsonSchema(_preset_schema())]
Override = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+\s*=")]
Target = Annotated[str, Field(pattern=r"^\S+$")]
AtLeastOne = Annotated[int, Field(ge=1)]
Cluster = Annotated[str, Field(pattern=r"^\w+://\S+$")]
