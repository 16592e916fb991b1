"""Rows that hold text, or a prompt and its answer, of JSON, CSV and Parquet files and of the hub.

Three forms of a row, under the names that TRL gave them: `text`; `prompt` and `completion`, as
plain text; `messages`, a list of turns `{"role", "content"}` that the model's own chat template
turns into text, with `tools` beside them where they call some.

Python's own json and csv read the files, for an error is to name its line, and what is written is
to stay as it is: the datasets library reads the answer `None` as a missing value, `7` as 7.0, and a
date as a point in time.
"""

import csv
import io
import json
from collections.abc import Iterable

from hpkit.errors import BadInput, in_one_line

#: Kind of corpus -> the fields of a row that make it one, in the order in which they are looked
#: for.
FORMS = {"messages": ("messages",), "prompts": ("prompt", "completion"), "text": ("text",)}
#: What a turn may hold besides role and content, for a template to show.
_OF_A_TURN = ("tool_calls", "tool_call_id", "name", "reasoning_content")

#: (where it stands, the row)
Placed = tuple[str, dict]


def form_of(fields: Iterable[str]) -> str | None:
    """The kind of corpus that rows with these fields make, or None."""
    for kind, wanted in FORMS.items():
        if set(wanted) <= set(fields):
            return kind
    return None


# Columns of other names.


def parse_columns(text: str | None) -> dict[str, str]:
    """Field of a row -> the column that holds it, of `body` or of `prompt=question,completion=a`.

    Raises BadInput.
    """
    if text is None:
        return {}
    columns = {}
    for part in text.split(","):
        field, equals, column = part.partition("=")
        if not equals:
            field = "text"
            column = part
        columns[field.strip()] = column.strip()
    if set(columns) not in map(set, FORMS.values()) or not all(columns.values()):
        raise BadInput(
            "text_column: expected the column that holds the text, or "
            f"prompt=COLUMN,completion=COLUMN, or messages=COLUMN, got {text!r}"
        )
    return columns


def with_columns(rows: list[Placed], columns: dict[str, str]) -> list[Placed]:
    """The rows with the fields that `columns` name, and no others. Raises BadInput."""
    if not columns:
        return rows
    renamed = []
    for place, row in rows:
        for column in columns.values():
            if column not in row:
                raise BadInput(
                    f"{place}: text_column asks for {column!r}, and the row has "
                    f"{', '.join(map(str, row)) or 'nothing'}"
                )
        fields = {field: row[column] for field, column in columns.items()}
        if "messages" in fields and "tools" in row:
            fields["tools"] = row["tools"]
        renamed.append((place, fields))
    return renamed


# Files.


def rows_of(file: str, ending: str, content: str | bytes) -> list[Placed] | None:
    """The rows of a file by its ending and its content; None where it is plain text.

    `content` as `sources.content_of` gives it. Raises BadInput, naming the line.
    """
    if isinstance(content, bytes):
        return _parquet_rows(file, content)
    if ending == ".csv":
        # Spreadsheets write semicolons where a comma is the decimal mark.
        header = content.lstrip("\n").partition("\n")[0]
        delimiter = max(",;\t", key=lambda mark: _columns_in(header, mark))
        return _table_rows(file, content, delimiter)
    if ending == ".tsv":
        return _table_rows(file, content, "\t")
    start = content.lstrip()[:1]
    if ending in (".json", ".jsonl", ".ndjson"):
        if start == "[":
            return _array_rows(file, content)
        if ending == ".json" and start == "{" and not _first_row(content):
            _refuse_one_object(file, content)
        return _line_rows(file, content)
    # Whatever the name: prose does not begin with two lines that are JSON objects.
    if start == "{" and _begins_with_rows(content):
        return _line_rows(file, content)
    if start == "[" and _is_array_of_objects(content):
        return _array_rows(file, content)
    return None


def _begins_with_rows(content: str) -> bool:
    lines = content.lstrip().split("\n", 20)[:20]
    first_two = [line for line in lines if line.strip()][:2]
    return all(map(_first_row, first_two))


def _is_array_of_objects(content: str) -> bool:
    try:
        items = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return bool(items) and all(isinstance(item, dict) for item in items)


def _first_row(content: str) -> dict:
    """The JSON object in the first line that is not blank, or an empty one."""
    first_line = content.lstrip().partition("\n")[0]
    try:
        row = json.loads(first_line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _line_rows(file: str, content: str) -> list[Placed]:
    """One JSON object a line, as in JSON Lines."""
    rows = []
    # By "\n" alone: JSON may hold other characters that Python's splitlines takes for a line's end.
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        rows.append((place, _json_object(place, line, "one JSON object a line")))
    return rows


def _array_rows(file: str, content: str) -> list[Placed]:
    """One JSON array of objects."""
    items = _parse_json(file, content, "a JSON array of objects")
    rows = []
    for number, item in enumerate(items, 1):
        place = f"{file}, item {number}"
        rows.append((place, _expect_object(place, item)))
    return rows


def _refuse_one_object(file: str, content: str) -> None:
    item = _expect_object(file, _parse_json(file, content, "JSON"))
    raise BadInput(
        f"{file}: expected a JSON array of objects, or one object a line; "
        f"got a single object with {', '.join(item)[:60]}"
    )


def _json_object(place: str, text: str, expected: str) -> dict:
    return _expect_object(place, _parse_json(place, text, expected))


def _parse_json(place: str, text: str, expected: str):
    try:
        return json.loads(text, object_pairs_hook=_object_of)
    except RecursionError:
        raise BadInput(f"{place}: expected {expected}, got one nested too deeply") from None
    except ValueError as error:
        raise BadInput(
            f"{place}: expected {expected}, got something that is not JSON ({error})"
        ) from None


def _object_of(pairs: list[tuple]) -> dict:
    """A JSON object; one of two values under a name would be lost."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two values are called {repeated!r}")
    return values


def _expect_object(place: str, item) -> dict:
    if not isinstance(item, dict):
        raise BadInput(
            f'{place}: expected a JSON object such as {{"text": …}}, got {type(item).__name__}'
        )
    return item


def _columns_in(header: str, delimiter: str) -> int:
    """How many columns a line has when this parts them; 0 where it cannot be read so."""
    try:
        return len(next(csv.reader([header], delimiter=delimiter, strict=True), ()))
    except csv.Error:
        return 0


def _table_rows(file: str, content: str, delimiter: str) -> list[Placed]:
    """One row a line of a CSV file, whose first line names the columns; all values are text."""
    # Of its own accord csv takes no field beyond 131,072 letters.
    csv.field_size_limit(2**31 - 1)
    # strict: a quotation mark that nobody closes is an error, and does not eat all that follows.
    reader = csv.DictReader(io.StringIO(content.lstrip("\n")), delimiter=delimiter, strict=True)
    blank_lines_before = len(content) - len(content.lstrip("\n"))
    rows = []
    try:
        reader.fieldnames = [column.strip() for column in reader.fieldnames or ()]
        _refuse_repeated_columns(file, reader.fieldnames)
        for row in reader:
            place = f"{file}, line {blank_lines_before + reader.line_num}"
            if None in row or None in row.values():
                fields = sum(value is not None for name, value in row.items() if name is not None)
                fields += len(row.get(None, ()))
                raise BadInput(
                    f"{place}: expected {len(reader.fieldnames)} fields as in the header, "
                    f"got {fields}"
                )
            rows.append((place, row))
    except csv.Error as error:
        place = f"{file}, line {blank_lines_before + reader.line_num}"
        raise BadInput(f"{place}: not CSV ({error})") from None
    return rows


def _refuse_repeated_columns(file: str, columns: list[str]) -> None:
    for column in columns:
        if columns.count(column) > 1:
            raise BadInput(f"{file}: two columns are called {column!r}, so one would be lost")


def _parquet_rows(file: str, content: bytes) -> list[Placed]:
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(io.BytesIO(content)).read()
        _refuse_repeated_columns(file, table.column_names)
        rows = table.to_pylist()
    except BadInput:
        raise
    except Exception as error:  # damage, and dates that Python has no number for
        raise BadInput(
            f"{file} is no Parquet file that can be read ({in_one_line(error)})"
        ) from None
    return [(f"{file}, row {number}", row) for number, row in enumerate(rows, 1)]


# A row as a document.


def document_of(kind: str, place: str, row: dict) -> str:
    """A row as the corpus keeps it: its text, or JSON of nothing but the fields that count.

    Raises BadInput, naming `place`.
    """
    wanted = FORMS[kind]
    if any(name not in row for name in wanted):
        raise BadInput(
            f"{place}: expected {' and '.join(wanted)} as in the rows before it, "
            f"got {', '.join(map(str, row)) or 'nothing'}"
        )
    for name in wanted:
        if kind != "messages" and not isinstance(row[name], str):
            raise BadInput(f"{place}: expected {name} to be text, got {_type_of(row[name])}")
    if kind == "messages":
        document = _conversation(place, row["messages"], row.get("tools"))
    elif kind == "text":
        document = row["text"]
    else:
        if not row["completion"].strip():
            raise BadInput(f"{place}: the completion is empty, so there is no answer to learn")
        document = _as_json(place, {name: row[name] for name in wanted})
    try:
        document.encode()
    except UnicodeEncodeError as error:
        half = document[error.start]
        raise BadInput(
            f"{place}: U+{ord(half):04X} is half of a character (a lone surrogate), as text cut "
            "inside an emoji has it: remove it"
        ) from None
    return document


def _type_of(value) -> str:
    """A value's type as JSON calls it where Python's word says less."""
    return "null" if value is None else type(value).__name__


def _conversation(place: str, messages, tools) -> str:
    """The turns as JSON, with the tools where there are some."""
    if not messages or not isinstance(messages, list):
        raise BadInput(
            f'{place}: expected messages as a list of {{"role": "user", "content": "…"}}, '
            f"got {str(messages)[:60]!r}"
        )
    turns = [_turn(place, number, turn) for number, turn in enumerate(messages, 1)]
    if not any(map(is_answer, range(len(turns)), turns)):
        roles = ", ".join(turn["role"] for turn in turns)
        raise BadInput(
            f"{place}: no turn of the role assistant answers anything, so there is nothing to "
            f"learn; the roles are {roles[:60]}"
        )
    if tools:
        return _as_json(place, {"messages": turns, "tools": tools})
    return _as_json(place, turns)


def is_answer(number: int, turn: dict) -> bool:
    """Is the turn one that is learnt: the assistant says or calls something, and not unasked?"""
    says_something = turn["content"].strip() or turn.get("tool_calls")
    if number == 0 or turn["role"] != "assistant" or turn.get("weight") == 0:
        return False
    return bool(says_something)


def _turn(place: str, number: int, turn) -> dict:
    """A turn with its role, its content as one text, and what a template may show besides."""
    if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
        raise BadInput(
            f'{place}: expected turn {number} as {{"role": "user", "content": "…"}}, '
            f"got {str(turn)[:60]!r}"
        )
    kept = {"role": turn["role"], "content": _content(place, number, turn)}
    for name in _OF_A_TURN:
        # Where some rows of a data set have a field, Arrow gives it to all, as null.
        if turn.get(name):
            kept[name] = turn[name]
    if turn.get("function_call"):
        raise BadInput(
            f"{place}: turn {number} has function_call, which today's templates do not read: "
            "write it as tool_calls"
        )
    if turn.get("weight") == 0:  # OpenAI's word for an answer that is not to be learnt
        kept["weight"] = 0
    return kept


def _content(place: str, number: int, turn: dict) -> str:
    content = turn.get("content")
    if isinstance(content, str):
        return content
    # A call of a tool needs no words.
    if content is None and turn.get("tool_calls"):
        return ""
    if isinstance(content, list):
        texts = [part["text"] for part in content if _is_text_part(part)]
        if len(texts) == len(content):
            return "".join(texts)
        raise BadInput(
            f"{place}: turn {number} holds something besides text, such as a picture, "
            "which a language model does not read"
        )
    raise BadInput(
        f"{place}: expected the content of turn {number} to be text, got {_type_of(content)}"
    )


def _is_text_part(part) -> bool:
    if not isinstance(part, dict) or part.get("type", "text") != "text":
        return False
    return isinstance(part.get("text"), str)


def messages_of(document: str) -> tuple[list[dict], list | None]:
    """(turns, tools) of a document of the kind "messages"."""
    row = json.loads(document)
    if isinstance(row, dict):
        return row["messages"], row["tools"]
    return row, None


def _as_json(place: str, row) -> str:
    try:
        # Letters stay letters: a message that quotes a document is to be read by people. A Parquet
        # file may hold dates and the like, which become text.
        return json.dumps(row, ensure_ascii=False, default=str)
    except RecursionError:
        raise BadInput(f"{place}: something in the row is nested too deeply") from None
