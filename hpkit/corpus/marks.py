"""The special tokens that stand before a text and behind it."""


def first_token_id(*token_ids: int | None) -> int:
    """The first of these special tokens that a tokenizer has; 0, any token, where it has none."""
    for token_id in token_ids:
        if token_id is not None:
            return token_id
    return 0


def start_token(tokenizer) -> int:
    """The token that stands first where nothing else does."""
    return first_token_id(tokenizer.bos_token_id, tokenizer.eos_token_id)


def boundary_marks(tokenizer) -> tuple[list[int], list[int]]:
    """The tokens that belong before a text and behind it: one each, or none."""
    before = []
    after = []
    bos = tokenizer.bos_token_id
    eos = tokenizer.eos_token_id
    # Some tokenizers, such as GPT-2's, have one mark for both: once between two texts is enough.
    if bos is not None and bos != eos:
        before.append(bos)
    if eos is not None:
        after.append(eos)
    return before, after
