"""Text to token blocks: the tunes, a file, a folder or a hub data set; splits and packing.

The historical tunes are read from the installed music21 package, which ships them by their transcribers' permission
(data/README.md); this project stores none of them. Reading them does not import music21.
"""

import hashlib
import importlib.util
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hpkit.corpus import music, notation
from hpkit.corpus.answers import FORMS, document_of, form_of, parse_lines
from hpkit.errors import BadInput, did_you_mean
from hpkit.files import cache_folder, data_folder, write_whole

#: Corpora known by name: the folder in music21's corpus, or the file in `data/`. Join several with `+`.
BUILT_IN = {
    "airdsAirs": "James Aird, Airs, 1778-1801 (Scottish; the fine-tuning corpus)",
    "oneills1850": "O'Neill, Music of Ireland, 1903 (pre-training corpus)",
    "ryansMammoth": "Ryan's Mammoth Collection, 1883 (pre-training corpus)",
    "aksak": "made by this project: 5/8, 7/8 and 9/8 tunes from a small grammar (synthetic)",
}

EVAL_SHARE = 10  # one document in this many is held out


@dataclass(frozen=True)
class Corpus:
    """Documents and how they came about.

    `documents`: normal-form tunes (`kind` "tunes"), passages of text ("text"), or rows with answers ("prompts" and
    "messages", as JSON: see `hpkit.corpus.answers`), no two the same.
    `passed_over`: reason -> how many source tunes were not usable. `origin`: document -> (file, line) for messages.
    """

    name: str
    kind: str
    documents: tuple[str, ...]
    passed_over: dict[str, int]
    origin: tuple[tuple[str, int], ...]

    def split(self) -> tuple[list[str], list[str]]:
        """(train, eval) documents. A document's side follows from its own text, so it never changes sides."""
        rank = {document: hashlib.sha256(document.encode()).digest() for document in self.documents}
        held_out = {
            d for d in self.documents if int.from_bytes(rank[d][:4], "big") % EVAL_SHARE == 0
        }
        if not held_out and len(self.documents) > 1:
            held_out = {min(self.documents, key=rank.get)}
        return [d for d in self.documents if d not in held_out], [
            d for d in self.documents if d in held_out
        ]

    def first(self, count: int) -> "Corpus":
        """The first `count` documents to train on, and all that are held out: a run on it is evaluated as one on the whole.

        Raises BadInput where there are fewer.
        """
        train, held_out = self.split()
        if not 0 < count <= len(train):
            raise BadInput(
                f"corpus {self.name}:{count}: expected 1 to {len(train)} documents to train on"
            )
        kept = {*train[:count], *held_out}
        documents, origin = zip(
            *(pair for pair in zip(self.documents, self.origin) if pair[0] in kept)
        )
        return Corpus(f"{self.name}:{count}", self.kind, documents, self.passed_over, origin)

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of the documents' hash: two runs with the same one saw the same text."""
        return hashlib.sha256("\0".join(self.documents).encode()).hexdigest()[:12]


def load_corpus(name: str) -> Corpus:
    """Read a corpus by built-in name (`airdsAirs`, `oneills1850+ryansMammoth`, `airdsAirs:30`), file, folder or hub id.

    `:30` after a built-in name leaves 30 documents to train on, and holds out the same ones as the whole corpus.
    ABC files become tunes in normal form; other text files become passages, split at blank lines. A line of a JSONL file
    and a row of a hub data set are one document: `text`, `prompt` and `completion`, or `messages`. Raises BadInput.
    """
    whole, few = re.fullmatch(r"(?s)(.*?)(?::(\d+))?", str(name)).groups()
    parts = whole.split("+")
    if all(part in BUILT_IN for part in parts):
        sources = [source for part in parts for source in _built_in_sources(part)]
        corpus = _cached_tunes(whole, sources)
        return corpus.first(int(few)) if few else corpus
    path = Path(name).expanduser()
    if path.is_file() or path.is_dir():
        return _from_files(str(name), path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        return _from_hub(str(name))
    unknown = next(part for part in parts if part not in BUILT_IN)
    known = ", ".join(BUILT_IN)
    raise BadInput(
        f"corpus {unknown!r} not found: no file or folder of that name here, and not one of {known}{did_you_mean(unknown, BUILT_IN)}"
    )


def _built_in_sources(name: str) -> list[tuple[str, str]]:
    """(file name, text) of one built-in corpus."""
    if name == "aksak":
        return [("aksak.abc", (data_folder() / "aksak.abc").read_text(encoding="utf-8"))]
    spec = importlib.util.find_spec("music21")  # finds the package without running it
    if spec is None:
        raise BadInput(
            f"corpus {name} is read from the music21 package, which is not installed: pip install music21"
        )
    folder = Path(spec.submodule_search_locations[0]) / "corpus" / name
    files = sorted(folder.glob("*.abc"))
    if not files:
        raise BadInput(
            f"the installed music21 was shipped without its corpus ({name} is missing): pip install --force-reinstall music21"
        )
    return [(file.name, file.read_text(encoding="utf-8", errors="replace")) for file in files]


def cut_tunes(text: str) -> list[tuple[int, str]]:
    """(first line number, text) of each tune in an ABC file: from `X:` (or, without any, `M:`) to a blank line."""
    start = re.compile(r"X:" if re.search(r"^X:", text, re.M) else r"M:")
    tunes, current, first = [], [], 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if current and (not line.strip() or start.match(line)):
            tunes.append((first, "\n".join(current)))
            current = []
        if start.match(line) or current:
            first = first if current else number
            current.append(line)
    return tunes


def normalise(sources: list[tuple[str, str]], strict: bool = False):
    """ABC texts to (documents, origins, passed_over). A tune heard before, in any key, is passed over.

    `strict` stops at a character that ABC does not know, naming file, line and column; the historical files, which
    hold a few, are read without.
    """
    documents, origins, passed_over, seen = [], [], Counter(), set()
    for file, text in sources:
        for first, abc in cut_tunes(text):
            try:
                tune = music.parse(abc)
            except music.ABCError as error:
                if strict and error.character:
                    raise BadInput(
                        f"{file}, line {first + error.line - 1}, column {error.column}: {error.why}; the tune cannot be read as "
                        "notes and nothing was trained: remove the character or the tune"
                    ) from None
                passed_over[error.why] += 1
                continue
            notes = music.melody(tune)
            heard = tuple((pitch - notes[0][0], start, length) for pitch, start, length in notes)
            if heard in seen:
                passed_over["a tune already read, in this or another key"] += 1
                continue
            seen.add(heard)
            documents.append(notation.render(tune))
            origins.append((file, first))
    return documents, origins, dict(passed_over)


def _cached_tunes(name: str, sources: list[tuple[str, str]]) -> Corpus:
    """Normalise the built-in sources once; later calls read the result, as long as sources and code are the same."""
    digest = hashlib.sha256()
    for part in (
        *(text.encode() for _, text in sources),
        Path(music.__file__).read_bytes(),
        Path(__file__).read_bytes(),
    ):
        digest.update(part)
    cache = cache_folder() / f"tunes-{digest.hexdigest()[:16]}.json"
    try:
        documents, origins, passed_over = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        documents, origins, passed_over = normalise(sources)
        write_whole(cache, json.dumps([documents, origins, passed_over]), optional=True)
    return Corpus(name, "tunes", tuple(documents), passed_over, tuple(map(tuple, origins)))


def _from_files(name: str, path: Path) -> Corpus:
    files = (
        [path]
        if path.is_file()
        else sorted(
            f for f in path.rglob("*") if f.suffix in (".abc", ".txt", ".jsonl") and f.is_file()
        )
    )
    if not files:
        raise BadInput(f"corpus folder {name} holds no .abc, .txt or .jsonl file")
    sources = []
    for file in files:
        try:
            sources.append(
                (str(file), file.read_text(encoding="utf-8-sig"))
            )  # editors on Windows put a mark in front
        except UnicodeDecodeError as error:
            raise BadInput(
                f"{file} is not UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02x}): save it as UTF-8"
            ) from None
        except OSError as error:
            raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    in_rows = {file.suffix == ".jsonl" for file in files}
    if in_rows == {True, False}:
        raise BadInput(
            f"corpus folder {name} holds .jsonl files and others: expected one kind; give the file you mean"
        )
    if in_rows == {True}:
        return _from_rows(name, [row for file, text in sources for row in parse_lines(file, text)])
    return _corpus_of(name, sources)


def _from_hub(name: str) -> Corpus:
    import datasets  # takes a second to import, and only hub data sets need it

    try:
        rows = datasets.load_dataset(name, split="train")
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise BadInput(
            f"corpus {name}: no such file or folder, and no data set of that id came from the hub ({why})"
        ) from None
    if form_of(rows.features) is None:  # a column of another name may hold the text
        text = [
            column
            for column, feature in rows.features.items()
            if getattr(feature, "dtype", "") == "string"
        ]
        if not text:
            raise BadInput(f"corpus {name} has no column of text, only {', '.join(rows.features)}")
        rows = rows.rename_column(text[0], "text")
    wanted = rows.select_columns(list(FORMS[form_of(rows.features)]))
    return _from_rows(name, [(f"{name} row {number}", row) for number, row in enumerate(wanted, 1)])


def _from_rows(name: str, rows: list[tuple[str, dict]]) -> Corpus:
    """A corpus of (place, row), all of the first one's form. Rows of text that look like ABC become tunes."""
    if not rows:
        raise BadInput(f"corpus {name} is empty")
    first, fields = rows[0]
    kind = form_of(fields)
    if kind is None:
        raise BadInput(
            f"{first}: expected text, or prompt and completion, or messages; got {', '.join(fields) or 'an empty row'}"
        )
    documents = [(place, document_of(kind, place, row)) for place, row in rows]
    if kind == "text" and _is_abc(documents):
        return _tunes_of(name, documents)
    origin = {}
    for place, document in documents:
        if document.strip():
            origin.setdefault(document, (place, 1))
    if not origin:
        raise BadInput(f"corpus {name} is empty")
    return Corpus(name, kind, tuple(origin), {}, tuple(origin.values()))


def _is_abc(sources: list[tuple[str, str]]) -> bool:
    """Do the texts look like tunes: an `M:` or `X:` line and a `K:` line?"""
    return any(
        re.search(r"^[XM]:", text, re.M) and re.search(r"^K:", text, re.M) for _, text in sources
    )


def _tunes_of(name: str, sources: list[tuple[str, str]]) -> Corpus:
    documents, origins, passed_over = normalise(sources, strict=True)
    if not documents:
        reasons = (
            "; ".join(f"{count} x {why}" for why, count in passed_over.items())
            or "no X: and K: lines were found"
        )
        raise BadInput(f"corpus {name} holds no usable tune: {reasons}")
    return Corpus(name, "tunes", tuple(documents), passed_over, tuple(origins))


def _corpus_of(name: str, sources: list[tuple[str, str]]) -> Corpus:
    """Tunes when the sources look like ABC, otherwise passages of text."""
    if not any(text.strip() for _, text in sources):
        raise BadInput(f"corpus {name} is empty")
    if _is_abc(sources) or any(file.endswith(".abc") for file, _ in sources):
        return _tunes_of(name, sources)
    passages = {}
    for file, text in sources:
        line = 1
        for passage in re.split(r"(\n\s*\n)", text):
            if passage.strip():
                lead = len(passage) - len(passage.lstrip("\n"))
                passages.setdefault(passage.strip("\n"), (file, line + lead))
            line += passage.count("\n")
    return Corpus(name, "text", tuple(passages), {}, tuple(passages.values()))
