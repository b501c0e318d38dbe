"""The drawn world: captioned, annotated pictures drawn here, in the layouts of the real datasets."""

from components.sources.drawn_world.world import draw_world

__all__ = ["draw_world"]
