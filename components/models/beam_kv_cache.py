"""Incremental decoding: one token per step, keys and values of earlier steps kept while beams fork and end.

Tests hold it equal to the textual head's full forward.
"""

import functools

import torch
from torch import Tensor

from components.models.decoder_layer import DecoderLayer, KeysValues, linear
from components.models.textual_head import TransformerTextualHead


class BeamCache:
    """State of a batch of captions that grow together, ``beams`` of them per image.

    The projected feature map is held once per image, whatever the number of beams: beams are
    further queries to the same keys. Dropout is left out.

    Attributes:
        length: tokens fed so far; the next one stands at this position.
    """

    def __init__(self, head: TransformerTextualHead, visual_features: Tensor) -> None:
        """Start with one empty caption per image.

        Args:
            head: a causal textual head.
            visual_features: ``(batch, feature_size, height, width)``.

        Raises:
            ValueError: for a head that is not causal.
        """
        if not head.causal:
            raise ValueError("only a causal textual head can decode token by token")
        self.head = head
        self.length = 0
        self._layers: list[DecoderLayer] = list(head.transformer.layers)
        self._images = head.images(head.project(visual_features))
        self._past = BeamPaths(len(self._layers))

    def step(self, tokens: Tensor) -> Tensor:
        """Feed one token per caption and predict the next.

        Shape:
            tokens ``(batch, beams)`` int64 -> logits ``(batch, beams, vocab_size)``

        Raises:
            ValueError: when the head has no position left.
        """
        if self.length >= self.head.max_caption_length:
            raise ValueError(f"the textual head has only {self.head.max_caption_length} positions")
        batch, beams = tokens.shape
        embedded = self.head.embedding(tokens.reshape(-1, 1), first_position=self.length)
        x = embedded.view(batch, beams, -1)
        past = self._past
        past.grow(tokens)
        for index, (layer, image) in enumerate(zip(self._layers, self._images, strict=True)):
            x = layer.step(x, functools.partial(past.keep, index), past.mask, image)
        if self.head.transformer.norm is not None:
            x = self.head.transformer.norm(x)
        self.length += 1
        return linear(x, self.head.output.weight, self.head.output.bias).contiguous()

    def select(self, beams: Tensor) -> None:
        """Continue with these old beams of each image, by index: ``(batch, new_beams)`` int64."""
        self._past.select(beams)


class BeamPaths:
    """Keys and values of captions that fork: nothing is moved when beams fork or end.

    A caption's past is a path through the tokens of all beams of its image. A beam search that copied the
    pasts of the beams it goes on with would move all of them at each step; here a table says which tokens
    are on whose path, and attention is masked by it. A slot is a token of one beam at one step; there are
    ``slots`` of them per image so far.

    Attributes:
        mask: ``(batch, 1, beams, slots)`` bool, true where a slot is on the path of a beam.
    """

    def __init__(self, num_layers: int) -> None:
        self.mask = torch.empty(0)
        self._paths = torch.empty(0)  # (batch, beams, length) int64, slots
        self._slots = 0
        self._kept: list[KeysValues | None] = [None] * num_layers

    def grow(self, tokens: Tensor) -> None:
        """Begin a step with ``tokens`` ``(batch, beams)``, each the next of the beam at its place."""
        batch, beams = tokens.shape
        new = torch.arange(self._slots, self._slots + beams, device=tokens.device)
        new = new.expand(batch, -1).unsqueeze(-1)
        self._paths = torch.cat([self._paths, new], dim=-1) if self._slots else new
        self._slots += beams
        mask = torch.zeros(batch, beams, self._slots, dtype=torch.bool, device=tokens.device)
        self.mask = mask.scatter_(-1, self._paths, True).unsqueeze(1)

    def select(self, beams: Tensor) -> None:
        """Continue with these old beams of each image: ``(batch, new_beams)`` int64."""
        self._paths = self._paths.gather(1, beams.unsqueeze(-1).expand(-1, -1, self._paths.shape[-1]))

    def keep(self, layer: int, key: Tensor, value: Tensor) -> KeysValues:
        """Keep the step's keys and values, and return those of all slots.

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
        """Make room for twice the slots in use, so that what is in ``store`` is copied seldom."""
        batch, heads, _, size = new.shape
        room = new.new_empty(batch, heads, 2 * self._slots, size)
        if store is not None:
            room[:, :, : store.shape[2]] = store
        return room
