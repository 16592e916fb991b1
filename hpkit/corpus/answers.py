"""Prompts and their answers as tokens, and which of them the loss counts."""

import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from hpkit.corpus.marks import boundary_marks, start_token
from hpkit.corpus.rows import is_answer, messages_of
from hpkit.errors import BadInput, in_one_line

#: The label that torch's cross entropy leaves out, by its own default.
NOT_COUNTED = -100


class Example(NamedTuple):
    """A prompt and its answers as arrays of one length; -100 labels what is no answer.

    `joined`: does an answer begin within a token that begins in its prompt? So it is where a prompt
    ends in a space, which many tokenizers take to the next word.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    joined: bool

    @property
    def answered(self) -> bool:
        """Is there a token that the loss counts? Nothing predicts the first."""
        return bool((self.labels[1:] != NOT_COUNTED).any())


def prompt_of(kind: str, document: str, tokenizer) -> str:
    """What the model reads before its first answer, as text: what it is asked to continue.

    `kind` is "prompts" or "messages", and `document` one of a corpus of that kind.
    """
    if kind == "prompts":
        return json.loads(document)["prompt"]
    turns, tools = messages_of(document)
    first_answer = next(number for number, turn in enumerate(turns) if is_answer(number, turn))
    return _rendered(turns[:first_answer], tools, tokenizer, add_generation_prompt=True)


def prompt_tokens(kind: str, document: str, tokenizer) -> list[int]:
    """`prompt_of` as the tokens that stand before the answer in training."""
    prompt = prompt_of(kind, document, tokenizer)
    tokens = list(tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
    if kind == "messages":
        return tokens
    before, _ = boundary_marks(tokenizer)
    if not before and not tokens:
        before = [start_token(tokenizer)]
    return [*before, *tokens]


def encode_answers(
    kind: str, documents: Iterable[str], tokenizer, places: dict[str, str] | None = None
) -> list[Example]:
    """Each document as an Example. `places`: where a document stands, for messages.

    Beginning and end mark are those of plain text where the row is plain text; a chat template
    brings its own. An answer begins with the first token that reaches into it, and takes what the
    template puts behind it: so a model learns to stop. Raises BadInput for a tokenizer without a
    chat template or without offsets, and for a row that the template or the alphabet refuses.
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
    examples = []
    for document in documents:
        try:
            examples.append(_encode_document(kind, document, tokenizer))
        except BadInput as error:
            if places is None:
                raise
            raise BadInput(f"{places[document]}: {error}") from None
    return examples


def _encode_document(kind: str, document: str, tokenizer) -> Example:
    text, answers = _text_and_answers(kind, document, tokenizer)
    # Prompt and answer are encoded together, as the model will see them: encoded apart, the tokens
    # where they meet could be others.
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    tokens = list(encoded["input_ids"])
    unknown = first_unknown(tokens, text, tokenizer)
    if unknown is not None:
        raise BadInput(outside_the_alphabet(text[unknown], tokenizer))
    labels = []
    joined = False
    read_until = 0
    for token, (begin, end) in zip(tokens, encoded["offset_mapping"]):
        label = NOT_COUNTED
        for answer_begin, answer_end in answers:
            # A token may begin in the prompt's last space and hold the answer's first word. Some
            # tokenizers leave the space out of where a token begins, and of a space alone nothing
            # is left.
            if begin < answer_end and end > answer_begin and (begin < end or begin > answer_begin):
                label = token
                joined |= kind == "prompts" and min(begin, read_until) < answer_begin
        read_until = end
        labels.append(label)
    if set(labels) <= {NOT_COUNTED}:
        raise BadInput(
            f"the tokenizer makes no token of the answer in {text[:60]!r}: expected one at least"
        )
    if kind == "prompts":
        before, after = boundary_marks(tokenizer)
        # An answer without a prompt begins with the first token, which nothing would predict.
        if not before and labels[0] != NOT_COUNTED:
            before = [start_token(tokenizer)]
        tokens = [*before, *tokens, *after]
        # The end mark counts: by it the model learns where an answer ends.
        labels = [*([NOT_COUNTED] * len(before)), *labels, *after]
    return Example(np.array(tokens, np.int32), np.array(labels, np.int32), joined)


def first_unknown(tokens: list[int], text: str, tokenizer) -> int | None:
    """Where in `text`, in characters, the first thing stands that becomes the unknown token.

    None where all is known. GPT-2's unknown token is its end mark, which a text may hold as such.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown not in tokens:
        return None
    if not tokenizer.is_fast:  # it does not know where a token begins
        return 0
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    for token, (begin, end) in zip(encoded["input_ids"], encoded["offset_mapping"]):
        if token == unknown and text[begin:end] != tokenizer.unk_token:
            return begin
    return None


def outside_the_alphabet(character: str, tokenizer) -> str:
    """What is wrong with a character that the tokenizer does not know, and what to do."""
    return (
        f"character {character!r} (U+{ord(character):04X}) is outside the model's alphabet "
        f"and would become {tokenizer.unk_token}, which teaches nothing: remove it, "
        "or choose a --model that has it"
    )


def _text_and_answers(kind: str, document: str, tokenizer) -> tuple[str, list[tuple[int, int]]]:
    """The text of a document, and from where to where in it, in characters, each answer goes."""
    if kind == "prompts":
        row = json.loads(document)
        text = row["prompt"] + row["completion"]
        return text, [(len(row["prompt"]), len(text))]
    # A template tells nobody where it put a turn. So the conversation is rendered up to the answer
    # and up to its end: the answer is what the second text has more than the first.
    turns, tools = messages_of(document)
    text = _rendered(turns, tools, tokenizer)
    _refuse_left_out(turns, tools, text, tokenizer)
    answers = []
    for number, turn in enumerate(turns):
        if not is_answer(number, turn):
            continue
        until_answer = _rendered(turns[:number], tools, tokenizer, add_generation_prompt=True)
        with_answer = _rendered(turns[: number + 1], tools, tokenizer)
        if not (with_answer.startswith(until_answer) and text.startswith(with_answer)):
            raise BadInput(
                "the model's chat template rewrites earlier turns, so an answer cannot be found "
                f"again in {text[:60]!r}: give one question and one answer a row, "
                "or prompt and completion"
            )
        answers.append((len(until_answer), len(with_answer)))
    return text, answers


def _refuse_left_out(turns: list[dict], tools: list | None, text: str, tokenizer) -> None:
    """Raise BadInput where the template shows nothing of the tools or of their calls.

    The model would learn to say nothing where it is to call a tool.
    """
    without_calls = []
    for turn in turns:
        without_calls.append({name: turn[name] for name in turn if name != "tool_calls"})
    if without_calls != turns and _same_text(without_calls, tools, text, tokenizer):
        raise BadInput(
            "the model's chat template leaves out tool_calls, so the call could not be learnt: "
            "choose a model whose template knows tools, or write the call into the content"
        )
    if tools and _same_text(turns, None, text, tokenizer):
        raise BadInput(
            "the model's chat template leaves out tools, so the model would never read of them: "
            "choose a model whose template knows tools, or describe them in a system turn"
        )


def _same_text(turns: list[dict], tools: list | None, text: str, tokenizer) -> bool:
    try:
        return _rendered(turns, tools, tokenizer) == text
    except BadInput:  # without them the template cannot do: so it reads them
        return False


def _rendered(turns: list[dict], tools: list | None, tokenizer, **settings) -> str:
    """The turns as text by the model's chat template. Raises BadInput where it refuses them."""
    try:
        return tokenizer.apply_chat_template(turns, tools=tools, tokenize=False, **settings)
    # Roles that must alternate are an error of the template's own; others stumble over a value.
    except Exception as error:
        raise BadInput(
            f"the model's chat template refuses {str(turns)[:60]!r}: {in_one_line(error)}"
        ) from None


def stop_tokens(kind: str, tokenizer, generation_config) -> list[int]:
    """The tokens by which an answer ends: of the model, of its template, and of its tokenizer.

    A template may end a turn by another mark than the tokenizer ends a text by.
    """
    # Some models have no generation_config, and some more than one end mark.
    found = getattr(generation_config, "eos_token_id", None)
    if found is None:
        found = []
    elif isinstance(found, int):
        found = [found]
    if kind == "messages":
        found = [*found, *_end_of_turn(tokenizer)]
    if tokenizer.eos_token_id is not None:
        found = [*found, tokenizer.eos_token_id]
    return sorted(set(found))


def _end_of_turn(tokenizer) -> list[int]:
    """The special token that the template puts behind what an assistant says; none or one."""
    said = "What was said."
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": said}]
    try:
        found, behind = _rendered(turns, None, tokenizer).rpartition(said)[1:]
    except BadInput:  # it asks for turns of another kind
        return []
    if not found:  # it changes what was said
        return []
    special = [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]
    for token in tokenizer(behind, add_special_tokens=False)["input_ids"]:
        if token in special:
            return [token]
    return []
