"""Does a model know texts by heart? It gets the beginning of each, and its most likely continuation is held against the real one."""

from typing import NamedTuple

from hpkit.errors import BadInput


class Recital(NamedTuple):
    """The beginning that was given, how the model went on, and how the text goes on; `right`: tokens before the first that differs."""

    given: str
    said: str
    real: str
    right: int


def recite(model, tokenizer, texts: list[str], given: int = 24, count: int = 40) -> list[Recital]:
    """Let the model continue each text for `count` tokens from its first `given`, always by the most likely token.

    Texts shorter than both together are left out. The model's mode is as before afterwards. Raises BadInput where none is
    long enough.
    """
    import torch

    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    rows = [row[: given + count] for row in rows if len(row) >= given + count]
    if not rows or given + len(start) < 1:
        raise BadInput(
            f"recite: expected texts of {given + count} tokens or more, got {len(texts)} shorter ones"
        )
    prompts = torch.tensor([start + row[:given] for row in rows], device=model.device)
    was_training = model.training
    model.eval()
    tokens = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=False,
        max_new_tokens=count,
        min_new_tokens=count,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,  # the Trainer has switched it off in the model's config
    )[:, prompts.shape[1] :].tolist()
    model.train(was_training)
    recitals = []
    for row, continuation in zip(rows, tokens):
        right = next(
            (
                place
                for place, pair in enumerate(zip(continuation, row[given:]))
                if pair[0] != pair[1]
            ),
            count,
        )
        recitals.append(
            Recital(*map(tokenizer.decode, (row[:given], continuation, row[given:])), right)
        )
    return recitals
