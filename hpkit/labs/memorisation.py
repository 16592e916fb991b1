"""Does a model know texts by heart?

It gets the beginning of each, and its most likely continuation is held against the real one.
"""

from typing import NamedTuple

from hpkit.errors import BadInput
from hpkit.sampling import continued


class Recital(NamedTuple):
    """The beginning that was `given`, how the model went on, and how the text goes on.

    `right`: tokens before the first that differs.
    """

    given: str
    said: str
    real: str
    right: int


def recite(model, tokenizer, texts: list[str], given: int = 24, count: int = 40) -> list[Recital]:
    """Let the model continue each text for `count` tokens from its first `given`.

    Always by the most likely token. Texts shorter than both together are left out. The model's mode
    is as before afterwards. Raises BadInput where none is long enough.
    """
    import torch

    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    rows = []
    for row in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        if len(row) >= given + count:
            rows.append(row[: given + count])
    if not rows or given + len(start) < 1:
        raise BadInput(
            f"recite: expected texts of {given + count} tokens or more, "
            f"got {len(texts)} shorter ones"
        )
    prompts = torch.tensor([start + row[:given] for row in rows], device=model.device)
    # No end mark before `count` tokens, so that every continuation is as long as the real one.
    said = continued(model, tokenizer, prompts, count, min_new_tokens=count, do_sample=False)
    recitals = []
    for row, tokens in zip(rows, said.tolist()):
        recital = Recital(
            given=tokenizer.decode(row[:given]),
            said=tokenizer.decode(tokens),
            real=tokenizer.decode(row[given:]),
            right=_tokens_in_common(tokens, row[given:]),
        )
        recitals.append(recital)
    return recitals


def _tokens_in_common(said: list[int], real: list[int]) -> int:
    """How many tokens are the same before the first that differs."""
    for place, (one, other) in enumerate(zip(said, real)):
        if one != other:
            return place
    return len(real)
