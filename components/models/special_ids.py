"""Token ids with a meaning of their own.

Models never import the text room; a test holds these equal to the tokenizer's.
"""

PAD_ID = 0  # also <unk>
SOS_ID = 1
EOS_ID = 2
MASK_ID = 3

SPECIAL_IDS = (PAD_ID, SOS_ID, EOS_ID, MASK_ID)
NEVER_GENERATED = (PAD_ID, SOS_ID, MASK_ID)
