"""`load_corpus`: tunes known by name, a file, a folder or a hub data set, read as documents.

Every document that is read is either in the corpus or counted with the reason why it is not.
"""

import dataclasses
import re
from collections import Counter
from pathlib import Path

from hpkit.corpus.documents import Corpus
from hpkit.corpus.rows import (
    FORMS,
    Placed,
    document_of,
    form_of,
    parse_columns,
    rows_of,
    with_columns,
)
from hpkit.corpus.sources import ENDINGS, Found, Unreadable, content_of, ending_of, find_files
from hpkit.corpus.tune_books import BUILT_IN, built_in, is_abc, tunes_of
from hpkit.errors import BadInput, did_you_mean, in_one_line
from hpkit.files import existing_path

#: Why a document is not in the corpus, as `Corpus.passed_over` has it.
SAME = "the same as one before"
EMPTY = "empty"


def load_corpus(
    name: str,
    eval_corpus: str | None = None,
    all_books: bool = True,
    text_column: str | None = None,
) -> Corpus:
    """Read a corpus by built-in name, file, folder or hub id.

    Built-in names may be joined with `+`. `:30` after them leaves 30 documents to train on, drawn
    from all books alike, and holds out the same ones as the whole corpus: `airdsAirs`,
    `oneills1850+ryansMammoth`, `airdsAirs:30`. Without `all_books` they are the first 30, as in the
    recorded runs of the first edition.

    ABC files become tunes in normal form; other text files become passages, split at blank lines. A
    row of a JSON, JSON Lines, CSV or Parquet file and of a hub data set is one document: `text`,
    `prompt` and `completion`, or `messages`; `text_column` says in which other columns these are,
    as `body`, `prompt=question,completion=answer` or `messages=conversation`. Any file may be
    packed with gzip.

    `eval_corpus`, named in the same way: a corpus of the same kind, all of which is evaluated on;
    nothing is held out then. Raises BadInput.
    """
    columns = parse_columns(text_column)
    if eval_corpus is None:
        return _load_one(name, columns, all_books=all_books)
    corpus = _load_one(name, columns, hold_out=False, all_books=all_books)
    try:
        evaluation = _load_one(eval_corpus, columns, hold_out=False)
    except BadInput as error:
        raise BadInput(f"eval_corpus: {error}") from None
    if evaluation.kind != corpus.kind:
        raise BadInput(
            f"eval_corpus {evaluation.name} holds {evaluation.kind}, and corpus {corpus.name} "
            f"{corpus.kind}: a loss on the one does not measure what is learnt from the other; "
            "give two of one kind"
        )
    return dataclasses.replace(corpus, evaluation=evaluation)


def _load_one(
    name: str, columns: dict[str, str], hold_out: bool = True, all_books: bool = True
) -> Corpus:
    """One corpus by its name; `columns` as of `parse_columns`, the others as in `Corpus.few`."""
    name = str(name)
    # (?s): a name with a line's end in it is wrong, and is to be told so like any other.
    whole, few = re.fullmatch(r"(?s)(.*?)(?::(\d+))?", name).groups()
    parts = whole.split("+")
    unknown = [part for part in parts if part not in BUILT_IN]
    if not unknown:
        if columns:
            raise BadInput(f"text_column: corpus {name} is built in and has no columns")
        corpus = built_in(whole, parts)
        if few:
            return corpus.few(int(few), hold_out, all_books)
        return corpus
    path = existing_path(name)
    if path and path.is_file():
        return _from_files(name, Found(None, [path], {}, 0), columns)
    if path and path.is_dir():
        return _from_files(name, find_files(path), columns)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return _from_hub(name, columns)
    if existing_path(parts[0]):
        raise BadInput(f"corpus {name}: `:30` and `+` go with built-in names alone")
    raise BadInput(
        f"corpus {unknown[0][:80]!r} not found: no file or folder of that name here, "
        f"and not one of {', '.join(BUILT_IN)}{did_you_mean(unknown[0], BUILT_IN)}"
    )


def _from_files(name: str, found: Found, columns: dict[str, str]) -> Corpus:
    texts = []
    rows = []
    for file in found.files:
        try:
            content = content_of(file)
        except Unreadable as error:
            if found.folder is None:
                raise
            found.pass_over(file, error.reason)
            continue
        rows_of_file = rows_of(str(file), ending_of(file), content)
        if rows_of_file is not None:
            rows += with_columns(rows_of_file, columns)
        elif content.strip():
            texts.append((str(file), content))
        if rows_of_file == [] or (rows_of_file is None and not content.strip()):
            found.pass_over(file, "nothing in it")
    known = {"unread": found.unread, "hidden_folders": found.hidden_folders}
    if not texts and not rows:
        _refuse_empty(name, found)
    if not rows:
        if columns:
            raise BadInput(f"text_column: {texts[0][0]} is plain text, which has no columns")
        return _from_texts(name, texts, known)
    return _from_rows(name, rows, texts, known)


def _refuse_empty(name: str, found: Found) -> None:
    if found.folder is None:
        raise BadInput(f"corpus {name} is empty")
    reasons = [f"{names[0]} ({reason})" for reason, names in found.unread.items()]
    raise BadInput(
        f"corpus folder {name}: expected files that end in {', '.join(ENDINGS)}, "
        f"got {', '.join(reasons) or 'none'}"
    )


def _from_hub(name: str, columns: dict[str, str]) -> Corpus:
    import datasets  # takes a second to import, and only hub data sets need it

    try:
        rows = datasets.load_dataset(name, split="train")
    except Exception as error:  # of many kinds: no such id, no network, no split, a bad script
        raise BadInput(
            f"corpus {name}: no such file or folder, "
            f"and no data set of that id came from the hub ({in_one_line(error)})"
        ) from None
    wanted = set(columns.values()) or set(FORMS.get(form_of(rows.features), ()))
    if not wanted or not wanted <= set(rows.features):
        raise BadInput(_other_columns(f"corpus {name}", rows.features))
    # What is not needed may be large, pictures for one.
    rows = rows.select_columns(sorted(wanted | ({"tools"} & set(rows.features))))
    placed = [(f"{name} row {number}", row) for number, row in enumerate(rows, 1)]
    return _from_rows(name, with_columns(placed, columns), [], {})


def _other_columns(where: str, columns) -> str:
    return (
        f"{where}: expected text, or prompt and completion, or messages; "
        f"got {', '.join(map(str, columns)) or 'an empty row'}; "
        "text_column says which holds what, as NAME, or prompt=NAME,completion=NAME"
    )


def _from_rows(name: str, rows: list[Placed], texts: list[tuple[str, str]], known: dict) -> Corpus:
    """A corpus of rows, all of the first one's form, and of the plain texts beside them.

    Text that is ABC in every row is tunes.
    """
    place_of_first, first = rows[0]
    kind = form_of(first)
    if kind is None:
        raise BadInput(_other_columns(place_of_first, first))
    if texts and kind != "text":
        raise BadInput(
            f"corpus {name} holds rows with answers ({place_of_first}) and plain text "
            f"({texts[0][0]}): expected one kind; give the file you mean"
        )
    placed = [((place, 1), document_of(kind, place, row)) for place, row in rows]
    if kind == "text":
        sources = [(place, document) for (place, _), document in placed if document.strip()]
        if sources and not texts and all(is_abc(document) for _, document in sources):
            return _with_blank(tunes_of(name, sources, **known), len(placed) - len(sources))
        for file, text in texts:
            placed += _passages(file, text)
    return _without_repeats(name, kind, placed, known)


def _with_blank(corpus: Corpus, count: int) -> Corpus:
    """The corpus with so many rows more that were read and hold nothing."""
    if not count:
        return corpus
    return dataclasses.replace(corpus, passed_over=corpus.passed_over | {EMPTY: count})


def _from_texts(name: str, texts: list[tuple[str, str]], known: dict) -> Corpus:
    """Tunes where all of the text is ABC, otherwise passages of text."""
    named_abc = [file for file, _ in texts if ending_of(Path(file)) == ".abc"]
    prose = [file for file, text in texts if file not in named_abc and not is_abc(text)]
    if not prose:
        return tunes_of(name, texts, **known)
    if named_abc:
        raise BadInput(
            f"corpus {name} holds tunes ({named_abc[0]}) and prose ({prose[0]}): expected one "
            "kind; give the file you mean"
        )
    placed = []
    for file, text in texts:
        placed += _passages(file, text)
    return _without_repeats(name, "text", placed, known)


def _passages(file: str, text: str) -> list[tuple[tuple[str, int], str]]:
    """((file, line), passage) of a text, which blank lines part."""
    passages = []
    line = 1
    # Blank lines between passages, before the first and behind the last. The group makes split
    # return them too, so that lines can be counted.
    for passage in re.split(r"(\A\s*\n|\n\s*\n|\n\s*\Z)", text):
        if passage.strip():
            passages.append(((file, line), passage))
        line += passage.count("\n")
    return passages


def _without_repeats(
    name: str, kind: str, placed: list[tuple[tuple[str, int], str]], known: dict
) -> Corpus:
    """The corpus of these documents; of passages that are the same the first one counts.

    Rows with answers stay, all of them: how often an answer comes is part of what it teaches.
    """
    documents = []
    origins = []
    passed_over = Counter()
    seen = set()
    for origin, document in placed:
        if kind == "text" and not document.strip():
            passed_over[EMPTY] += 1
        elif kind == "text" and document in seen:
            passed_over[SAME] += 1
        else:
            seen.add(document)
            documents.append(document)
            origins.append(origin)
    if not documents:
        raise BadInput(f"corpus {name} is empty")
    return Corpus(name, kind, tuple(documents), dict(passed_over), tuple(origins), **known)
