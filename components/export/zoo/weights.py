"""From what a person calls weights (a zoo name, a path or a URL) to tensors."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from components.core.errors import InputError
from components.export.zoo.catalogue import ZOO
from components.export.zoo.files import CHECKSUM, is_url, local_file
from components.export.zoo.tensors import read_tensors
from components.params.reading import nearest


def open_weights(source: str, other_words: Sequence[str] = ()) -> dict[str, Tensor]:
    """Read the tensors of a published model by its name, or of the file at a path or URL.

    ``other_words`` are what else the user might have meant, for the hint in an error.

    Raises:
        InputError: if ``source`` is none of these, or its file cannot be had or read.
    """
    place = source.partition(CHECKSUM)[0]
    if place in ZOO:
        source = source.replace(place, ZOO[place].url, 1)
    elif not is_url(place) and not Path(place).exists() and not {"/", "."} & set(place):
        raise InputError(
            f"{source}: neither a file nor a published model{nearest(place, [*ZOO, *other_words])}"
        )
    path = local_file(source)
    try:
        return read_tensors(path)
    except InputError as error:
        if not is_url(source):
            raise
        raise InputError(f"{error}; this came from {source}; remove the file to fetch it anew") from error
