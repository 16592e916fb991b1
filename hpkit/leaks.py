"""What a model sees and must not: later tokens, the labels, other documents in its block.

An encoder such as BERT loads as a "causal" model and reads its labels; a recurrent one carries what
it has read into the next document. Neither shows in a loss, which only falls. A forward pass tells.
"""

import inspect

from hpkit.errors import BadInput, in_one_line
from hpkit.model import context_length

#: Tokens of a probe, half of which are changed.
LENGTH = 16


def refuse_unless_causal(model, name: str) -> None:
    """Raise BadInput for a model that reads what it is to predict, or that reads no text alone.

    Three passes of 16 tokens, on the device where the model is. `name` is for the message.
    """
    import torch

    tokens, others = _two_texts(model)
    half = len(tokens) // 2
    changed = torch.cat([tokens[:half], others[half:]])
    try:
        before = _forward(model, tokens[None], labels=tokens[None])
        after = _forward(model, changed[None])
        # Some models ask for more of their input in training. What dropout draws here is not to
        # change what the run draws.
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            _forward(model, tokens[None], training=True)
    except Exception as error:  # each class of model has its own
        why = in_one_line(error)
        raise BadInput(
            f"model {name}: expected a model that reads tokens and predicts the next one; "
            f"{type(model).__name__} cannot be trained on {len(tokens)} tokens ({why})"
        ) from None
    if not torch.isfinite(before.logits).all():
        raise BadInput(
            f"model {name}: its logits are not finite numbers before anything is trained: the "
            "weights are damaged, or too large for their format"
        )
    if _differ(before.logits[0, :half], after.logits[0, :half], model):
        raise BadInput(
            f"model {name} is no causal model: {type(model).__name__} predicts a token by looking "
            "at those that follow, so it would read its labels and learn nothing; choose a decoder "
            "such as Llama, Qwen or GPT-2"
        )
    if not _predicts_the_next(before.loss, before.logits[0], tokens):
        raise BadInput(
            f"model {name}: the loss of {type(model).__name__} compares each prediction with the "
            "token just read and not with the next one, so it would learn to repeat; choose a "
            "decoder such as Llama, Qwen or GPT-2"
        )


def keeps_documents_apart(model) -> bool:
    """Does no token see another document of its block, when positions start anew with each?

    True for models whose attention heeds positions as transformers' masks do; False for those that
    take no positions, or carry a state from token to token.
    """
    import torch

    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    tokens, others = _two_texts(model)
    places = torch.arange(len(tokens))
    # Two rows, as in a batch, whose second documents begin at different places.
    second = (places[:, None] >= torch.tensor([len(tokens) // 2, len(tokens) // 4])).T
    starts = second.long().argmax(dim=1, keepdim=True)
    positions = torch.where(second, places - starts, places)
    try:
        before = _forward(model, tokens.expand(2, -1), position_ids=positions)
        after = _forward(model, torch.where(second, tokens, others), position_ids=positions)
    except Exception:  # of a model that takes no such positions
        return False
    return not _differ(before.logits[second], after.logits[second], model)


def _two_texts(model):
    """Two rows of tokens that differ everywhere, from the middle of the vocabulary.

    Special tokens, which a model may treat in a way of their own, lie at its ends.
    """
    import torch

    vocabulary = model.get_input_embeddings().num_embeddings
    length = min(LENGTH, context_length(model) or LENGTH)
    tokens = (torch.arange(length) + vocabulary // 4) % vocabulary
    # Some models read proteins, and know twenty letters.
    others = (tokens + min(LENGTH, vocabulary // 2)) % vocabulary
    return tokens, others


def _forward(model, tokens, training: bool = False, **inputs):
    """What the model says to rows of tokens, as in a training; without dropout by default."""
    import torch

    inputs["input_ids"] = tokens
    # As a batch is: some models look at the memory of what they get, and refuse a view.
    inputs = {name: values.contiguous().to(model.device) for name, values in inputs.items()}
    was_training = model.training
    used_cache = getattr(model.config, "use_cache", None)
    # As the Trainer has it: with a cache, positions that start anew part nothing.
    model.config.use_cache = False
    model.train(training)
    try:
        with torch.no_grad():
            return model(**inputs)
    finally:
        model.train(was_training)
        model.config.use_cache = used_cache


def _differ(before, after, model) -> bool:
    """Is the difference of two outputs more than rounding?

    Most models give the same numbers again; a mixture of experts sums in another order. Over all
    of transformers' causal models, tiny and with random weights, rounding changed fp32 by at most
    4e-7 of the largest output, and the smallest leak by 2e-4 (data/ARCHITECTURES.md). In 16 bits
    the two come near each other.
    """
    import torch

    tolerance = max(1e-5, torch.finfo(model.dtype).eps / 4)
    size = before.float().abs().max()
    return bool((before.float() - after.float()).abs().max() > tolerance * size)


def _predicts_the_next(loss, logits, tokens) -> bool:
    """Is the loss that of the next token, and not that of the token just read?

    It may be more than one of them: experts are paid for sharing their work.
    """
    import torch

    tokens = tokens.to(logits.device)
    of_the_next = torch.nn.functional.cross_entropy(logits[:-1].float(), tokens[1:])
    of_the_same = torch.nn.functional.cross_entropy(logits.float(), tokens)
    return bool(abs(loss - of_the_next) < abs(loss - of_the_same))
