"""Token classification weighted by inverse document frequency (SuperClass, arXiv 2411.03313).

Otherwise than there the head is token classification's one linear layer, without a LayerNorm before it, so
that the two objectives differ in the weights alone.
"""

from typing import Any

import torch
from torch import Tensor

from components.objectives.classification import TokenClassificationObjective


class IdfTokenClassificationObjective(TokenClassificationObjective):
    """Token classification in which a token has the share of the target that its weight has of the caption's.

    The weights belong to the captions of a run, whose frequencies are counted with its tokenizer
    (components.text.document_frequencies); they are saved with the model.

    Attributes:
        token_weights: ``(vocab_size,)`` float32, 1 each until they are filled in.
    """

    token_weights: Tensor

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("token_weights", torch.ones(self.textual.output.out_features))

    def weights(self) -> Tensor:
        """Return the weight of each token."""
        return self.token_weights
