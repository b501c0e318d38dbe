"""What a caption metric takes and gives, and how it says that it cannot."""

from collections.abc import Callable, Sequence

Texts = dict[str, list[str]]  # words joined by spaces, by image id; hypotheses have one text an image
Result = tuple[Sequence[float], Sequence[Sequence[float]]]  # a total, and a score an image, for each name
Metric = Callable[[Texts, Texts], Result]  # of references and hypotheses, in the same order


class NotRun(Exception):
    """A metric cannot be computed on this machine; the message says why and what would help."""
