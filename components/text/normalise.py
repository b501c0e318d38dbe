"""Caption text as the tokenizer sees it."""

import unicodedata


def normalise(caption: str) -> str:
    """Lower-case, NFKD, combining marks removed, as the paper's public code does before tokenising.

    White space is left alone: SentencePiece folds it.
    """
    if caption.isascii():
        return caption.lower()  # all that the rest would do to it
    decomposed = unicodedata.normalize("NFKD", caption.lower())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
