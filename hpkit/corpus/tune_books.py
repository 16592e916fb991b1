"""Books of tunes in ABC: the built-in ones, and any text that holds tunes, in normal form.

The historical tunes are read from the installed music21 package, which ships them by their
transcribers' permission (data/README.md); this project stores none of them. Reading them does not
import music21.
"""

import hashlib
import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

from hpkit.corpus import music, notation, tune
from hpkit.corpus.documents import Corpus
from hpkit.errors import BadInput
from hpkit.files import cache_folder, data_folder, write_whole

#: Corpora known by name: the folder in music21's corpus, or the file in `data/`. Join several with
#: `+`.
BUILT_IN = {
    "airdsAirs": "James Aird, Airs, 1778-1801 (Scottish; the fine-tuning corpus)",
    "oneills1850": "O'Neill, Music of Ireland, 1903 (pre-training corpus)",
    "ryansMammoth": "Ryan's Mammoth Collection, 1883 (pre-training corpus)",
    "aksak": "made by this project: 5/8, 7/8 and 9/8 tunes from a small grammar (synthetic)",
}
_COMMENT = re.compile(r"%")
_FIELD_OR_COMMENT = re.compile(r"[A-Za-z+]:|%")
_NUMBER_OR_METER = re.compile(r"^(X:\s*\d+\s*$|M:\s*(\d+/\d+|C\b|C\||none\b))", re.M)
#: What is written above or beside the notes, in quotation marks, brackets or behind a percent sign.
_QUOTED = re.compile(r'"[^"]*"|![^!]*!|\+[^+]*\+|\{[^}]*\}|\[[A-Za-z]:[^]]*\]|%.*')
#: Three letters or more, two of which are neither notes nor the usual ornaments.
_WORD = re.compile(r"\b(?=[A-Za-z]*[h-jl-tw][A-Za-z]*[h-jl-tw])[A-Za-z]{3,}\b")
#: `K:G`, `K:Dmajor`, `K:A Dorian clef=bass`, `K:none`, `K:`.
_KEY = re.compile(
    r"^K:\s*([A-G][#b]?\s*(maj|min|mix|dor|phr|lyd|loc|aeo|ion|m?(?![a-z]))|HP|none|$)", re.M | re.I
)


def built_in(name: str, parts: list[str]) -> Corpus:
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
    know, naming file, line and column, and passes over a tune with words among its notes; the
    historical files, which hold a few of both, are read as the recorded runs read them.
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
            if strict and _holds_words(abc):
                passed_over["words among the notes"] += 1
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


def _holds_words(abc: str) -> bool:
    """Is a line of words among the notes? Letters that are no notes stand for ornaments there."""
    for line in abc.splitlines():
        if not _FIELD_OR_COMMENT.match(line) and _WORD.search(_QUOTED.sub("", line)):
            return True
    return False


def tunes_of(name: str, sources: list[tuple[str, str]], **known) -> Corpus:
    """The corpus of the tunes in ABC texts, given as (file, text); `known` of Corpus goes on.

    Raises BadInput for a character that ABC does not know, and where no tune is usable.
    """
    documents, origins, passed_over = normalise(sources, strict=True)
    between = sum(len(_outside_tunes(text)) for _, text in sources)
    if between:
        passed_over["text between tunes"] = between
    if not documents:
        reasons = "; ".join(f"{count} x {why}" for why, count in passed_over.items())
        raise BadInput(
            f"corpus {name} holds no usable tune: {reasons or 'no X: and K: lines were found'}"
        )
    return Corpus(name, "tunes", tuple(documents), passed_over, tuple(origins), **known)


def is_abc(text: str) -> bool:
    """Is all of the text tunes, so that nothing is lost when it is read as such?

    Each tune has a number or a meter, and one at least a key and can be read. Prose with a line
    `M: the meeting` is prose, and tunes with prose between them are, too.
    """
    tunes = [abc for _, abc in cut_tunes(text)]
    if not all(map(_NUMBER_OR_METER.search, tunes)) or _outside_tunes(text):
        return False
    return any(_KEY.search(abc) and _can_be_read(abc) for abc in tunes)


def _can_be_read(abc: str) -> bool:
    try:
        notation.parse(abc)
    except notation.ABCError:
        return False
    return True


def _outside_tunes(text: str) -> list[str]:
    """The passages, between blank lines, that no tune takes.

    Comments are left out, and before the first tune fields such as `O:Scotland`: a file's header.
    """
    inside = set()
    first_tune = None
    for first, abc in cut_tunes(text):
        inside.update(range(first, first + abc.count("\n") + 1))
        if first_tune is None:
            first_tune = first
    outside = []
    passage = []
    for number, line in enumerate([*text.splitlines(), ""], 1):  # "" ends the last passage
        if line.strip() and number not in inside:
            in_header = first_tune is None or number < first_tune
            left_out = _FIELD_OR_COMMENT if in_header else _COMMENT
            if not left_out.match(line):
                passage.append(line)
        elif passage:
            outside.append("\n".join(passage))
            passage = []
    return outside
