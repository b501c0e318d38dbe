"""Ids and spellings of the caption tokens with a meaning of their own (SentencePiece's, as published).

Text, data and models share them; the rooms do not import each other.
"""

UNK_ID = PAD_ID = 0  # the published models pad with <unk>
SOS_ID = 1
EOS_ID = 2
MASK_ID = 3

SPECIAL_PIECES = ("<unk>", "[SOS]", "[EOS]", "[MASK]")  # by id
SPECIAL_IDS = (PAD_ID, SOS_ID, EOS_ID, MASK_ID)
NEVER_GENERATED = (PAD_ID, SOS_ID, MASK_ID)
