"""Prompts and their answers as tokens, and which of them the loss counts."""

import json

from hpkit.errors import BadInput

#: The label that torch's cross entropy leaves out, by its own default.
NOT_COUNTED = -100


def prompt_of(kind: str, document: str, tokenizer) -> str:
    """What the model reads before its first answer, as text: what it is asked to continue.

    `kind` is "prompts" or "messages", and `document` one of a corpus of that kind.
    """
    row = json.loads(document)
    if kind == "prompts":
        return row["prompt"]
    roles = [turn["role"] for turn in row]
    before_the_answer = row[: roles.index("assistant")]
    return _rendered(before_the_answer, tokenizer, add_generation_prompt=True)


def first_token_id(*token_ids: int | None) -> int:
    """The first of these special tokens that a tokenizer has; 0, any token, where it has none."""
    for token_id in token_ids:
        if token_id is not None:
            return token_id
    return 0


def encode_answers(kind: str, documents: list[str], tokenizer) -> list[dict[str, list[int]]]:
    """`input_ids` and `labels` of each document, of one length; -100 labels what is no answer.

    Beginning and end mark are those of plain text where the row is plain text; a chat template
    brings its own. An answer begins with the first token that begins in it, and takes what the
    template puts behind it: so a model learns to stop. Raises BadInput for a tokenizer without a
    chat template or without offsets, and for an answer that has no token.
    """
    if kind == "messages" and not tokenizer.chat_template:
        raise BadInput(
            "this corpus holds messages, and the model has no chat template: "
            "choose a model made for chat, or give prompt and completion"
        )
    if not tokenizer.is_fast:
        raise BadInput(
            "prompts and answers need a tokenizer of the tokenizers library, "
            "which knows where a token begins; this model has none"
        )
    return [_encode_document(kind, document, tokenizer) for document in documents]


def _encode_document(kind: str, document: str, tokenizer) -> dict[str, list[int]]:
    text, answers = _text_and_answers(kind, document, tokenizer)
    # Prompt and answer are encoded together, as the model will see them: encoded apart, the tokens
    # where they meet could be others.
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    tokens = list(encoded["input_ids"])
    labels = []
    for token, (begin, _) in zip(tokens, encoded["offset_mapping"]):
        if any(start <= begin < end for start, end in answers):
            labels.append(token)
        else:
            labels.append(NOT_COUNTED)
    if set(labels) <= {NOT_COUNTED}:
        raise BadInput(
            f"no token of the answer is its own in {text[:60]!r}: "
            "expected prompt and answer to meet at a space or a line's end"
        )
    if kind == "prompts":
        before, after = boundary_marks(tokenizer)
        tokens = [*before, *tokens, *after]
        # The end mark counts: by it the model learns where an answer ends.
        labels = [*([NOT_COUNTED] * len(before)), *labels, *after]
    return {"input_ids": tokens, "labels": labels}


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


def _text_and_answers(kind: str, document: str, tokenizer) -> tuple[str, list[tuple[int, int]]]:
    """The text of a document, and from where to where in it, in characters, each answer goes."""
    row = json.loads(document)
    if kind == "prompts":
        text = row["prompt"] + row["completion"]
        return text, [(len(row["prompt"]), len(text))]
    # A template tells nobody where it put a turn. So the conversation is rendered up to the answer
    # and up to its end: the answer is what the second text has more than the first.
    text = _rendered(row, tokenizer)
    answers = []
    for number, turn in enumerate(row):
        if turn["role"] != "assistant":
            continue
        until_answer = _rendered(row[:number], tokenizer, add_generation_prompt=True)
        with_answer = _rendered(row[: number + 1], tokenizer)
        if not (with_answer.startswith(until_answer) and text.startswith(with_answer)):
            raise BadInput(
                "the model's chat template rewrites earlier turns, so an answer cannot be found "
                f"again in {text[:60]!r}: give one question and one answer a row, "
                "or prompt and completion"
            )
        answers.append((len(until_answer), len(with_answer)))
    return text, answers


def _rendered(turns: list[dict], tokenizer, **settings) -> str:
    """The turns as text by the model's chat template. Raises BadInput where it refuses them."""
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, **settings)
    except TemplateError as error:  # such as roles that must alternate
        raise BadInput(f"the model's chat template refuses {str(turns)[:60]!r}: {error}") from None
