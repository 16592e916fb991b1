"""Rows that hold a prompt and its answer: reading them, which of their tokens the loss counts, whole rows in blocks.

Three forms of a row, under the names that TRL gave them: `text`; `prompt` and `completion`, as plain text; `messages`, a
list of turns `{"role", "content"}` that the model's own chat template turns into text.
"""

import bisect
import json

from hpkit.errors import BadInput

#: kind of corpus -> the fields of a row that make it one, in the order in which they are looked for.
FORMS = {"messages": ("messages",), "prompts": ("prompt", "completion"), "text": ("text",)}


def form_of(fields) -> str | None:
    """The kind of corpus that rows with these fields make, or None."""
    return next((kind for kind, wanted in FORMS.items() if set(wanted) <= set(fields)), None)


def parse_lines(file: str, text: str) -> list[tuple[str, dict]]:
    """(place, row) of each line of a JSONL file that is not blank. Raises BadInput for what is no row of a known form."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(
                f"{place}: expected one JSON object a line, got something that is not JSON ({error})"
            ) from None
        if not isinstance(row, dict):
            raise BadInput(
                f'{place}: expected a JSON object such as {{"text": …}}, got {type(row).__name__}'
            )
        rows.append((place, row))
    return rows


def document_of(kind: str, place: str, row: dict) -> str:
    """A row as the corpus keeps it: its text, or JSON of nothing but the fields that count. Raises BadInput, naming `place`."""
    missing = [name for name in FORMS[kind] if name not in row]
    if missing:
        raise BadInput(
            f"{place}: expected {' and '.join(FORMS[kind])} as in the rows before it, got {', '.join(row) or 'nothing'}"
        )
    if kind == "messages":
        turns = row["messages"] if isinstance(row["messages"], list) else []
        well_formed = all(
            isinstance(turn, dict)
            and all(isinstance(turn.get(name), str) for name in ("role", "content"))
            for turn in turns
        )
        if not turns or not well_formed:
            raise BadInput(
                f'{place}: expected messages as a list of {{"role": "user", "content": "…"}}, got {str(row["messages"])[:60]!r}'
            )
        if not any(turn["role"] == "assistant" and turn["content"].strip() for turn in turns):
            raise BadInput(
                f"{place}: no turn of the role assistant says anything, so there is no answer to learn"
            )
        return json.dumps(
            [{name: turn[name] for name in ("role", "content")} for turn in turns],
            ensure_ascii=False,
        )
    for name in FORMS[kind]:
        if not isinstance(row[name], str):
            raise BadInput(f"{place}: expected {name} to be text, got {type(row[name]).__name__}")
    if kind == "text":
        return row["text"]
    if not row["completion"].strip():
        raise BadInput(f"{place}: the completion is empty, so there is no answer to learn")
    return json.dumps({name: row[name] for name in FORMS[kind]}, ensure_ascii=False)


def prompt_of(kind: str, document: str, tokenizer) -> str:
    """What the model reads before its first answer, as text: what it is asked to continue."""
    row = json.loads(document)
    if kind == "prompts":
        return row["prompt"]
    first = next(number for number, turn in enumerate(row) if turn["role"] == "assistant")
    return _rendered(row[:first], tokenizer, add_generation_prompt=True)


def encode_answers(kind: str, documents: list[str], tokenizer) -> list[dict[str, list[int]]]:
    """`input_ids` and `labels` of each document, of one length; a token that belongs to no answer has the label -100.

    Beginning and end mark are those of plain text where the row is plain text; a chat template brings its own. An answer
    begins with the first token that begins in it, and takes what the template puts behind it: so a model learns to stop.
    Raises BadInput for a tokenizer without a chat template or without offsets, and for an answer that has no token.
    """
    if kind == "messages" and not tokenizer.chat_template:
        raise BadInput(
            "this corpus holds messages, and the model has no chat template: choose a model made for chat, or give prompt and completion"
        )
    if not tokenizer.is_fast:
        raise BadInput(
            "prompts and answers need a tokenizer of the tokenizers library, which knows where a token begins; this model has none"
        )
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    examples = []
    for document in documents:
        text, answers = _text_and_answers(kind, document, tokenizer)
        encoded = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        tokens, begins = (
            list(encoded["input_ids"]),
            [begin for begin, _ in encoded["offset_mapping"]],
        )
        counted = [any(start <= begin < end for start, end in answers) for begin in begins]
        if not any(counted):
            raise BadInput(
                f"no token of the answer is its own in {text[:60]!r}: expected prompt and answer to meet at a space or a line's end"
            )
        labels = [token if count else -100 for token, count in zip(tokens, counted)]
        if kind == "prompts":
            before, after = (
                [bos] if bos is not None and bos != eos else [],
                [eos] if eos is not None else [],
            )
            tokens, labels = before + tokens + after, [-100] * len(before) + labels + after
        examples.append({"input_ids": tokens, "labels": labels})
    return examples


def _text_and_answers(kind: str, document: str, tokenizer) -> tuple[str, list[tuple[int, int]]]:
    """The text of a document, and from where to where in it, in characters, each answer goes."""
    row = json.loads(document)
    if kind == "prompts":
        text = row["prompt"] + row["completion"]
        return text, [(len(row["prompt"]), len(text))]
    text, answers = _rendered(row, tokenizer), []
    for number, turn in enumerate(row):
        if turn["role"] == "assistant":
            before, after = (
                _rendered(row[:number], tokenizer, add_generation_prompt=True),
                _rendered(row[: number + 1], tokenizer),
            )
            if not (after.startswith(before) and text.startswith(after)):
                raise BadInput(
                    f"the model's chat template rewrites earlier turns, so an answer cannot be found again in {text[:60]!r}: "
                    "give one question and one answer a row, or prompt and completion"
                )
            answers.append((len(before), len(after)))
    return text, answers


def _rendered(turns: list[dict], tokenizer, **settings) -> str:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, **settings)
    except TemplateError as error:  # such as roles that must alternate
        raise BadInput(f"the model's chat template refuses {str(turns)[:60]!r}: {error}") from None


def pack_whole(
    examples: list[dict[str, list[int]]], max_seq_length: int, padding: int
) -> list[dict[str, list[int]]]:
    """Blocks of exactly `max_seq_length` tokens in which every example is whole, for an answer needs its question.

    Best fit, longest first: each example goes where it leaves the least room. What is longer than a block is cut off at
    its end, and left out where no answer remains. What stays free is filled with the token `padding`, which is no label and
    has positions of its own. Positions start anew with every example, as in `hpkit.corpus.pack`, and by that no example
    attends to another.
    """
    cut = [
        {name: values[:max_seq_length] for name, values in example.items()} for example in examples
    ]
    cut = [example for example in cut if any(label != -100 for label in example["labels"])]
    blocks, room = [], []  # room: (tokens that are free, number of the block), ascending
    for example in sorted(cut, key=lambda example: -len(example["input_ids"])):
        place = bisect.bisect_left(room, (len(example["input_ids"]),))
        free, number = room.pop(place) if place < len(room) else (max_seq_length, len(blocks))
        if number == len(blocks):
            blocks.append([])
        blocks[number].append(example)
        bisect.insort(room, (free - len(example["input_ids"]), number))
    packed = []
    for block in blocks:
        gap = max_seq_length - sum(len(example["input_ids"]) for example in block)
        members = [*block, {"input_ids": [padding] * gap, "labels": [-100] * gap}]
        packed.append(
            {
                "input_ids": [token for member in members for token in member["input_ids"]],
                "position_ids": [
                    place for member in members for place in range(len(member["input_ids"]))
                ],
                # Nothing before an example's first token belongs to it.
                "labels": [
                    label if place else -100
                    for member in members
                    for place, label in enumerate(member["labels"])
                ],
            }
        )
    return packed
