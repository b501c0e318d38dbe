"""Keys and values of captions that fork: nothing is moved when beams fork or end.

A caption's past is a path through the tokens of all beams of its image. A beam search that copied the
pasts of the beams it goes on with would move all of them at each step; here a table says which tokens
are on whose path, and attention is masked by it.
"""

import torch
from torch import Tensor


class KeptBeams:
    """What the layers of a decoder keep of each token.

    A slot is a token of one beam at one step; ``slots`` of them an image so far.

    Attributes:
        mask: ``(batch, 1, beams, slots)`` bool, true where a slot is on the path of a beam.
    """

    def __init__(self, num_layers: int) -> None:
        self.mask = torch.empty(0)
        self._paths = torch.empty(0)  # (batch, beams, length) int64, slots
        self._slots = 0
        self._kept: list[tuple[Tensor, Tensor] | None] = [None] * num_layers

    def grow(self, tokens: Tensor) -> None:
        """A step begins with ``tokens`` ``(batch, beams)``, each the next of the beam at its place."""
        batch, beams = tokens.shape
        new = torch.arange(self._slots, self._slots + beams, device=tokens.device)
        new = new.expand(batch, -1).unsqueeze(-1)
        self._paths = torch.cat([self._paths, new], dim=-1) if self._slots else new
        self._slots += beams
        mask = torch.zeros(batch, beams, self._slots, dtype=torch.bool, device=tokens.device)
        self.mask = mask.scatter_(-1, self._paths, True).unsqueeze(1)

    def select(self, beams: Tensor) -> None:
        """Go on with these old beams of each image: ``(batch, new_beams)`` int64."""
        self._paths = self._paths.gather(1, beams.unsqueeze(-1).expand(-1, -1, self._paths.shape[-1]))

    def keep(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the step's keys and values; returns those of all slots.

        Shape:
            ``(batch, heads, beams, head_size)`` each -> ``(batch, heads, slots, head_size)`` each
        """
        kept = self._kept[layer]
        if kept is None:
            kept = self._kept[layer] = self._room_for(key), self._room_for(value)
        elif kept[0].shape[2] < self._slots:
            kept = self._kept[layer] = self._room_for(key, kept[0]), self._room_for(value, kept[1])
        for store, new in zip(kept, (key, value), strict=True):
            store[:, :, self._slots - new.shape[2] : self._slots] = new
        return kept[0][:, :, : self._slots], kept[1][:, :, : self._slots]

    def _room_for(self, new: Tensor, store: Tensor | None = None) -> Tensor:
        """Twice the slots in use, so that what is in ``store`` is copied seldom."""
        batch, heads, _, size = new.shape
        room = new.new_empty(batch, heads, 2 * self._slots, size)
        if store is not None:
            room[:, :, : store.shape[2]] = store
        return room
