"""Rows that hold text, or a prompt and its answer: lines of a JSONL file, rows of a hub data set.

Three forms of a row, under the names that TRL gave them: `text`; `prompt` and `completion`, as
plain text; `messages`, a list of turns `{"role", "content"}` that the model's own chat template
turns into text.
"""

import json
from collections.abc import Iterable

from hpkit.errors import BadInput

#: Kind of corpus -> the fields of a row that make it one, in the order in which they are looked
#: for.
FORMS = {"messages": ("messages",), "prompts": ("prompt", "completion"), "text": ("text",)}


def form_of(fields: Iterable[str]) -> str | None:
    """The kind of corpus that rows with these fields make, or None."""
    for kind, wanted in FORMS.items():
        if set(wanted) <= set(fields):
            return kind
    return None


def parse_lines(file: str, text: str) -> list[tuple[str, dict]]:
    """(place, row) of each line of a JSONL file that is not blank.

    Raises BadInput for a line that is no JSON object.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(
                f"{place}: expected one JSON object a line, "
                f"got something that is not JSON ({error})"
            ) from None
        if not isinstance(row, dict):
            raise BadInput(
                f'{place}: expected a JSON object such as {{"text": …}}, got {type(row).__name__}'
            )
        rows.append((place, row))
    return rows


def document_of(kind: str, place: str, row: dict) -> str:
    """A row as the corpus keeps it: its text, or JSON of nothing but the fields that count.

    Raises BadInput, naming `place`.
    """
    wanted = FORMS[kind]
    if any(name not in row for name in wanted):
        raise BadInput(
            f"{place}: expected {' and '.join(wanted)} as in the rows before it, "
            f"got {', '.join(row) or 'nothing'}"
        )
    if kind == "messages":
        return _conversation(place, row["messages"])
    for name in wanted:
        if not isinstance(row[name], str):
            raise BadInput(f"{place}: expected {name} to be text, got {type(row[name]).__name__}")
    if kind == "text":
        return row["text"]
    if not row["completion"].strip():
        raise BadInput(f"{place}: the completion is empty, so there is no answer to learn")
    return _as_json({name: row[name] for name in wanted})


def _conversation(place: str, messages) -> str:
    """The turns as JSON, without what a turn may hold besides role and content."""
    if not messages or not isinstance(messages, list) or not all(map(_is_turn, messages)):
        raise BadInput(
            f'{place}: expected messages as a list of {{"role": "user", "content": "…"}}, '
            f"got {str(messages)[:60]!r}"
        )
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
    if not any(turn["role"] == "assistant" and turn["content"].strip() for turn in turns):
        raise BadInput(
            f"{place}: no turn of the role assistant says anything, so there is no answer to learn"
        )
    return _as_json(turns)


def _is_turn(turn) -> bool:
    if not isinstance(turn, dict):
        return False
    return isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)


def _as_json(row) -> str:
    # Letters stay letters: a message that quotes a document is to be read by people.
    return json.dumps(row, ensure_ascii=False)
