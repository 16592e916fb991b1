"""Corpora: tunes known by name, a file, a folder or a hub data set, and what is held out of them.

The historical tunes are read from the installed music21 package, which ships them by their
transcribers' permission (data/README.md); this project stores none of them. Reading them does not
import music21.
"""

import dataclasses
import hashlib
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpkit.corpus import music, notation, tune
from hpkit.corpus.rows import FORMS, document_of, form_of, parse_lines
from hpkit.errors import BadInput, did_you_mean
from hpkit.files import cache_folder, data_folder, write_whole

#: Corpora known by name: the folder in music21's corpus, or the file in `data/`. Join several with
#: `+`.
BUILT_IN = {
    "airdsAirs": "James Aird, Airs, 1778-1801 (Scottish; the fine-tuning corpus)",
    "oneills1850": "O'Neill, Music of Ireland, 1903 (pre-training corpus)",
    "ryansMammoth": "Ryan's Mammoth Collection, 1883 (pre-training corpus)",
    "aksak": "made by this project: 5/8, 7/8 and 9/8 tunes from a small grammar (synthetic)",
}

#: One document in this many is held out.
HELD_OUT_ONE_IN = 10


@dataclass(frozen=True)
class Corpus:
    """Documents and how they came about.

    `documents`: normal-form tunes (`kind` "tunes"), passages of text ("text"), or rows with answers
    ("prompts" and "messages", as JSON: see `hpkit.corpus.rows`), no two the same. `passed_over`:
    reason -> how many source tunes were not usable. `origin`: (file, line) of each document, for
    messages. `evaluation`: the corpus to evaluate on; None: some of the documents are held out.
    """

    name: str
    kind: str
    documents: tuple[str, ...]
    passed_over: dict[str, int]
    origin: tuple[tuple[str, int], ...]
    evaluation: "Corpus | None" = None

    def split(self) -> tuple[list[str], list[str]]:
        """(train, eval) documents. A document's side follows from its text: it never changes."""
        if self.evaluation is not None:
            return list(self.documents), list(self.evaluation.documents)
        digests = {}
        for document in self.documents:
            digests[document] = hashlib.sha256(document.encode()).digest()
        held_out = set()
        for document, digest in digests.items():
            if int.from_bytes(digest[:4], "big") % HELD_OUT_ONE_IN == 0:
                held_out.add(document)
        # By chance a small corpus may have none, and a run without evaluation says nothing.
        if not held_out and len(self.documents) > 1:
            held_out.add(min(digests, key=digests.get))
        train = [document for document in self.documents if document not in held_out]
        evaluation = [document for document in self.documents if document in held_out]
        return train, evaluation

    def few(self, count: int, hold_out: bool = True, all_books: bool = True) -> "Corpus":
        """`count` documents to train on, from all books alike, and all that are held out.

        So a run on it is evaluated as one on the whole; without `hold_out`, those to train on are
        all. Without `all_books` they are the first ones. Raises BadInput where there are fewer.
        """
        train, held_out = self.split()
        if not 0 < count <= len(train):
            raise BadInput(
                f"corpus {self.name}:{count}: expected 1 to {len(train)} documents to train on"
            )
        kept = set(train[:count])
        if all_books:
            kept = set(spread(train, count))
        if hold_out:
            kept.update(held_out)
        documents = []
        origins = []
        for document, origin in zip(self.documents, self.origin):
            if document in kept:
                documents.append(document)
                origins.append(origin)
        name = f"{self.name}:{count}"
        return Corpus(name, self.kind, tuple(documents), self.passed_over, tuple(origins))

    @property
    def evaluation_name(self) -> str | None:
        """What the corpus to evaluate on is called; None where there is no other."""
        if self.evaluation is None:
            return None
        return self.evaluation.name

    @property
    def trained_and_evaluated(self) -> int:
        """How many documents are trained on and evaluated on as well."""
        train, evaluation = self.split()
        return len({*train} & {*evaluation})

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of the documents' hash: runs with the same ones saw the same text."""
        return hashlib.sha256("\0".join(self.documents).encode()).hexdigest()[:12]


def spread(items: Sequence, count: int | None) -> list:
    """`count` of the items, as far apart as they can be; all of them for None, or where they are
    no more.

    Documents lie in the order of their books, so each book has its share.
    """
    if count is None or count >= len(items):
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]


def load_corpus(name: str, eval_corpus: str | None = None, all_books: bool = True) -> Corpus:
    """Read a corpus by built-in name, file, folder or hub id.

    Built-in names may be joined with `+`. `:30` after them leaves 30 documents to train on, drawn
    from all books alike, and holds out the same ones as the whole corpus: `airdsAirs`,
    `oneills1850+ryansMammoth`, `airdsAirs:30`. Without `all_books` they are the first 30, as in the
    recorded runs of the first edition.

    ABC files become tunes in normal form; other text files become passages, split at blank lines. A
    line of a JSONL file and a row of a hub data set are one document: `text`, `prompt` and
    `completion`, or `messages`.

    `eval_corpus`, named in the same way: a corpus of the same kind, all of which is evaluated on;
    nothing is held out then. Raises BadInput.
    """
    if eval_corpus is None:
        return _load_one(name, all_books=all_books)
    corpus = _load_one(name, hold_out=False, all_books=all_books)
    try:
        evaluation = _load_one(eval_corpus, hold_out=False)
    except BadInput as error:
        raise BadInput(f"eval_corpus: {error}") from None
    if evaluation.kind != corpus.kind:
        raise BadInput(
            f"eval_corpus {evaluation.name} holds {evaluation.kind}, and corpus {corpus.name} "
            f"{corpus.kind}: a loss on the one does not measure what is learnt from the other; "
            "give two of one kind"
        )
    return dataclasses.replace(corpus, evaluation=evaluation)


def _load_one(name: str, hold_out: bool = True, all_books: bool = True) -> Corpus:
    """One corpus by its name; `hold_out` and `all_books` as in `Corpus.few`."""
    name = str(name)
    # (?s): a name with a line's end in it is wrong, and is to be told so like any other.
    whole, few = re.fullmatch(r"(?s)(.*?)(?::(\d+))?", name).groups()
    parts = whole.split("+")
    unknown = [part for part in parts if part not in BUILT_IN]
    if not unknown:
        corpus = _built_in(whole, parts)
        if few:
            return corpus.few(int(few), hold_out, all_books)
        return corpus
    path = Path(name).expanduser()
    if path.is_file() or path.is_dir():
        return _from_files(name, path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return _from_hub(name)
    raise BadInput(
        f"corpus {unknown[0]!r} not found: no file or folder of that name here, "
        f"and not one of {', '.join(BUILT_IN)}{did_you_mean(unknown[0], BUILT_IN)}"
    )


def _built_in(name: str, parts: list[str]) -> Corpus:
    """The tunes of built-in corpora: normalised once, and read from the cache from then on."""
    sources = []
    for part in parts:
        sources += _built_in_sources(part)
    # What was read holds as long as the sources and the code that normalises them are the same.
    digest = hashlib.sha256()
    for _, text in sources:
        digest.update(text.encode())
    for code in (tune.__file__, notation.__file__, music.__file__, __file__):
        digest.update(Path(code).read_bytes())
    cache = cache_folder() / f"tunes-{digest.hexdigest()[:16]}.json"
    try:
        documents, origins, passed_over = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or cut short
        documents, origins, passed_over = normalise(sources)
        write_whole(cache, json.dumps([documents, origins, passed_over]), optional=True)
    # JSON made lists of the pairs.
    return Corpus(name, "tunes", tuple(documents), passed_over, tuple(map(tuple, origins)))


def _built_in_sources(name: str) -> list[tuple[str, str]]:
    """(file name, text) of one built-in corpus."""
    if name == "aksak":
        return [("aksak.abc", (data_folder() / "aksak.abc").read_text(encoding="utf-8"))]
    spec = importlib.util.find_spec("music21")  # finds the package without running it
    if spec is None:
        raise BadInput(
            f"corpus {name} is read from the music21 package, which is not installed: "
            "pip install music21"
        )
    folder = Path(spec.submodule_search_locations[0]) / "corpus" / name
    files = sorted(folder.glob("*.abc"))
    if not files:
        raise BadInput(
            f"the installed music21 was shipped without its corpus ({name} is missing): "
            "pip install --force-reinstall music21"
        )
    # "replace": a byte that is not UTF-8 costs its tune at most, and not the corpus.
    return [(file.name, file.read_text(encoding="utf-8", errors="replace")) for file in files]


def cut_tunes(text: str) -> list[tuple[int, str]]:
    """(first line number, text) of each tune in an ABC file.

    A tune goes from `X:` to a blank line or the next `X:`; in a file without any, from `M:`.
    """
    start = "M:"
    if re.search(r"^X:", text, re.M):
        start = "X:"
    tunes = []
    current = []
    first = 0
    for number, line in enumerate([*text.splitlines(), ""], 1):  # "" ends the last tune
        if current and (not line.strip() or line.startswith(start)):
            tunes.append((first, "\n".join(current)))
            current = []
        if line.startswith(start):
            first = number
            current = [line]
        elif current:
            current.append(line)
    return tunes


def normalise(
    sources: list[tuple[str, str]], strict: bool = False
) -> tuple[list[str], list[tuple[str, int]], dict[str, int]]:
    """ABC texts, as (file, text), to (documents, origins, passed_over).

    A tune heard before, in any key, is passed over. `strict` stops at a character that ABC does not
    know, naming file, line and column; the historical files, which hold a few, are read without.
    """
    documents = []
    origins = []
    passed_over = Counter()
    melodies_heard = set()
    for file, text in sources:
        for first, abc in cut_tunes(text):
            try:
                parsed = notation.parse(abc)
            except notation.ABCError as error:
                if strict and error.character:
                    raise BadInput(
                        f"{file}, line {first + error.line - 1}, column {error.column}: "
                        f"{error.why}; the tune cannot be read as notes and nothing was trained: "
                        "remove the character or the tune"
                    ) from None
                passed_over[error.why] += 1
                continue
            heard = _melody_in_any_key(parsed)
            if heard in melodies_heard:
                passed_over["a tune already read, in this or another key"] += 1
                continue
            melodies_heard.add(heard)
            documents.append(notation.render(parsed))
            origins.append((file, first))
    return documents, origins, dict(passed_over)


def _melody_in_any_key(read: tune.Tune) -> tuple:
    """The melody with every pitch counted from the first: the same for a tune and its transpose."""
    notes = music.melody(read)
    first_pitch = notes[0][0]
    return tuple((pitch - first_pitch, start, length) for pitch, start, length in notes)


def _from_files(name: str, path: Path) -> Corpus:
    files = _files_of(path)
    if not files:
        raise BadInput(f"corpus folder {name} holds no .abc, .txt or .jsonl file")
    sources = [(str(file), _text_of(file)) for file in files]
    of_rows = [file.suffix == ".jsonl" for file in files]
    if all(of_rows):
        rows = []
        for file, text in sources:
            rows += parse_lines(file, text)
        return _from_rows(name, rows)
    if any(of_rows):
        raise BadInput(
            f"corpus folder {name} holds .jsonl files and others: expected one kind; "
            "give the file you mean"
        )
    return _from_texts(name, sources)


def _files_of(path: Path) -> list[Path]:
    """The file itself, whatever its name ends in, or all of a folder that may hold text."""
    if path.is_file():
        return [path]
    files = []
    for file in path.rglob("*"):
        if file.suffix in (".abc", ".txt", ".jsonl") and file.is_file():
            files.append(file)
    return sorted(files)


def _text_of(file: Path) -> str:
    try:
        # "-sig": editors on Windows put a mark in front.
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file} is not UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02x}): "
            "save it as UTF-8"
        ) from None
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None


def _from_hub(name: str) -> Corpus:
    import datasets  # takes a second to import, and only hub data sets need it

    try:
        rows = datasets.load_dataset(name, split="train")
    except Exception as error:  # of many kinds: no such id, no network, no split, a bad script
        why = f"{type(error).__name__}: {error}"
        raise BadInput(
            f"corpus {name}: no such file or folder, "
            f"and no data set of that id came from the hub ({why})"
        ) from None
    if form_of(rows.features) is None:  # a column of another name may hold the text
        rows = rows.rename_column(_column_of_text(name, rows.features), "text")
    wanted = rows.select_columns(list(FORMS[form_of(rows.features)]))
    return _from_rows(name, [(f"{name} row {number}", row) for number, row in enumerate(wanted, 1)])


def _column_of_text(name: str, features: dict) -> str:
    """The first column of a data set that holds text. Raises BadInput where none does."""
    for column, feature in features.items():
        # A nested feature has no dtype.
        if getattr(feature, "dtype", "") == "string":
            return column
    raise BadInput(f"corpus {name} has no column of text, only {', '.join(features)}")


def _from_rows(name: str, rows: list[tuple[str, dict]]) -> Corpus:
    """A corpus of (place, row), all of the first one's form. Text that looks like ABC is tunes."""
    if not rows:
        raise BadInput(f"corpus {name} is empty")
    place_of_first, first = rows[0]
    kind = form_of(first)
    if kind is None:
        raise BadInput(
            f"{place_of_first}: expected text, or prompt and completion, or messages; "
            f"got {', '.join(first) or 'an empty row'}"
        )
    documents = [(place, document_of(kind, place, row)) for place, row in rows]
    if kind == "text" and _any_is_abc(documents):
        return _from_abc(name, documents)
    origins = {}
    for place, document in documents:
        if document.strip():
            # Of rows that are the same the first one counts.
            origins.setdefault(document, (place, 1))
    if not origins:
        raise BadInput(f"corpus {name} is empty")
    return Corpus(name, kind, tuple(origins), {}, tuple(origins.values()))


def _from_texts(name: str, sources: list[tuple[str, str]]) -> Corpus:
    """Tunes when the sources look like ABC, otherwise passages of text."""
    if not any(text.strip() for _, text in sources):
        raise BadInput(f"corpus {name} is empty")
    if _any_is_abc(sources) or any(file.endswith(".abc") for file, _ in sources):
        return _from_abc(name, sources)
    origins = {}
    for file, text in sources:
        line = 1
        # The group makes split return the blank lines too, so that lines can be counted.
        for passage in re.split(r"(\n\s*\n)", text):
            if passage.strip():
                blank_lines_before = len(passage) - len(passage.lstrip("\n"))
                origins.setdefault(passage.strip("\n"), (file, line + blank_lines_before))
            line += passage.count("\n")
    return Corpus(name, "text", tuple(origins), {}, tuple(origins.values()))


def _any_is_abc(sources: list[tuple[str, str]]) -> bool:
    """Does one of the texts look like tunes: an `M:` or `X:` line and a `K:` line?"""
    for _, text in sources:
        if re.search(r"^[XM]:", text, re.M) and re.search(r"^K:", text, re.M):
            return True
    return False


def _from_abc(name: str, sources: list[tuple[str, str]]) -> Corpus:
    documents, origins, passed_over = normalise(sources, strict=True)
    if not documents:
        reasons = "; ".join(f"{count} x {why}" for why, count in passed_over.items())
        raise BadInput(
            f"corpus {name} holds no usable tune: {reasons or 'no X: and K: lines were found'}"
        )
    return Corpus(name, "tunes", tuple(documents), passed_over, tuple(origins))
