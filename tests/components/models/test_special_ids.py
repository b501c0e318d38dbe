from components.data import batch, masking
from components.models import special_ids
from components.text import tokenizer


def test_ids_are_the_tokenizers() -> None:
    ours = (special_ids.PAD_ID, special_ids.SOS_ID, special_ids.EOS_ID, special_ids.MASK_ID)
    assert ours == (tokenizer.PAD_ID, tokenizer.SOS_ID, tokenizer.EOS_ID, tokenizer.MASK_ID)
    assert tokenizer.UNK_ID == batch.PAD_ID == special_ids.PAD_ID
    assert masking.MASK_ID == tokenizer.MASK_ID
    assert len(tokenizer.SPECIAL_PIECES) == masking.NUM_SPECIAL
