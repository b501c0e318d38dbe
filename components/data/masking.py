"""Hiding tokens of a caption for masked language modelling."""

from collections.abc import Sequence

import numpy as np

from components.core.caption_tokens import MASK_ID, PAD_ID, SPECIAL_IDS

CHOSEN_PERCENT = 15
MASKED, RANDOM = 0.85, 0.10  # of the chosen tokens; the rest stay as they are


def mask_tokens(
    tokens: Sequence[int], vocab_size: int, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Hide 15 % of a caption's tokens, rounded up, never the first and the last one.

    Of those chosen 85 % become [MASK], 10 % another token (never a special one), 5 % stay; a single one
    becomes [MASK]. As in the paper's public code only what became [MASK] is to be predicted.

    Returns:
        The tokens to show, and labels: the true token where there is [MASK] now, 0 elsewhere.
    """
    shown, labels = list(tokens), [PAD_ID] * len(tokens)
    num_inner = max(0, len(tokens) - 2)
    num_chosen = -(-CHOSEN_PERCENT * num_inner // 100)
    chosen = 1 + rng.permutation(num_inner)[:num_chosen]
    for position, fate in zip(chosen.tolist(), rng.random(num_chosen).tolist(), strict=True):
        if num_chosen == 1 or fate < MASKED:
            shown[position], labels[position] = MASK_ID, tokens[position]
        elif fate < MASKED + RANDOM:
            shown[position] = int(rng.integers(len(SPECIAL_IDS), vocab_size))
    return shown, labels
