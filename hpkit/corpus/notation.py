"""ABC tunes: read them, write them in normal form, judge their bars, turn them into sound.

ABC writes a tune as text: `M:6/8` is the meter, `K:Em` the key, letters are notes, a `2` behind a letter doubles
it, `|` ends a bar. Normal form keeps just that: a meter line, a key line, one line of notes counted in eighths.
Grammar: ABC standard 2.1 (2011), https://abcnotation.com/wiki/abc:standard:v2.1
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

#: Every character that normal form can hold. All ten digits are in, though the historical corpora lack some.
ALPHABET = "\n#'(,-/0123456789:=ABCDEFGKM^_abcdefghilmoprxyz|"

_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ALTERATION = {"": 0, "^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}
_FIFTHS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
# A mode is a major scale begun elsewhere: its signature lies this many fifths from the tonic's major.
_MODES = {"": 0, "lyd": 1, "mix": -1, "dor": -2, "m": -3, "phr": -4}
_MODE_WORDS = {"": "", "maj": "", "ion": "", "m": "m", "min": "m", "aeo": "m"} | {
    m: m for m in _MODES if len(m) == 3
}

# Three digits are more than music needs, and less than a model can babble.
_LENGTH = r"\d{0,3}(?:/{1,4}\d{0,3})?"
_NOTE = rf"(?:\^\^|\^|__|_|=)?[A-Ga-g][,']*{_LENGTH}-?"
_NOTE_PARTS = re.compile(r"(\^\^|\^|__|_|=)?([A-Ga-gzx])([,']*)(\d*)(/*)(\d*)(-?)")
_TOKEN = re.compile(
    r'(?P<skip>"[^"]*"|![^!|]*!|\+[^+|]*\+|\{[^}]*\}|\[[IPNRrU]:[^]]*\]|y\d*|[\s`~.\\!*$]|[H-WYh-w])'
    r"|(?P<tuplet>\(\d(?::\d?)?(?::\d?)?)"
    r"|(?P<slur>[()])"
    rf"|(?P<chord>\[(?:[\s~.]*{_NOTE})+\s*\]{_LENGTH}-?)"
    rf"|(?P<note>{_NOTE}|[zx]{_LENGTH})"
    r"|(?P<tie>-)"
    r"|(?P<broken>>+|<+)"
    r"|(?P<bar>(?:\[\||[|:])[|:\]]*(?:\s*\[?[1-9])?|\[[1-9])"
)
_FIELD = re.compile(r"([A-Za-z]):(?![|:])\s*(.*)")


class ABCError(ValueError):
    """Text that is not one tune in one voice, key and meter. `line` and `column` count from 1 in the text given.

    `character` is set when the cause is a character that no ABC tune body can hold.
    """

    def __init__(self, why: str, line: int = 1, column: int = 1, character: str = ""):
        super().__init__(f"line {line}, column {column}: {why}")
        self.why, self.line, self.column, self.character = why, line, column, character


@dataclass(frozen=True)
class Note:
    """A note as written; `length` in eighths, before any tuplet. A rest has the step `z`."""

    step: str
    length: Fraction
    accidental: str = ""
    octave: str = ""
    tie: bool = False


class Tuplet(NamedTuple):
    """The next `notes` notes share the time of `of` of their kind; `(3` is p=3 in the time of 2."""

    p: int
    of: int
    notes: int


class BarLine(NamedTuple):
    """A bar line: does a repeat end or start here, is it double, which ending (`1`, `2`) begins."""

    ends_repeat: bool = False
    starts_repeat: bool = False
    double: bool = False
    ending: str = ""

    @property
    def section(self) -> bool:
        """True where a section of the tune begins or ends: the bars beside it may be incomplete."""
        return self.ends_repeat or self.starts_repeat or self.double


@dataclass(frozen=True)
class Tune:
    """One tune: `meter` as (6, 8), `key` as `Em` or `Ador`, `elements` in the order written."""

    meter: tuple[int, int]
    key: str
    elements: tuple[Note | Tuplet | BarLine, ...]


def parse(text: str) -> Tune:
    """Read one tune: with an `X:` line as standard ABC, without one as normal form (unit: an eighth).

    Graces, slurs, beams, decorations, titles and chord symbols are passed over; of a chord the highest note stays;
    `A>B` becomes the lengths it means. Raises ABCError on anything else.
    """
    meter = unit = key = None
    standard = False
    elements: list = []
    state = {"broken": Fraction(1)}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("%")[0]
        field = _FIELD.match(line)
        if not field:
            if line.strip() and key is None:
                raise ABCError("notes before the K: line", number)
            _read_notes(line, number, unit, elements, state)
            continue
        name, value = field[1], field[2].strip()
        if name == "X":
            standard = True
        elif name == "M":
            new = _parse_meter(value, number)
            if elements and new != meter:
                raise ABCError("the meter changes within the tune", number)
            meter = new
        elif name == "L":
            if not re.fullmatch(r"1/[1-9]\d{0,2}", value):
                raise ABCError(f"L:{value} is no unit length such as 1/8", number)
            unit = Fraction(value) * 8
        elif name == "K":
            new = _parse_key(value, number)
            if key is not None and new != key:
                raise ABCError("the key changes within the tune", number)
            key = new
            if meter is None:
                raise ABCError("no M: line before K:", number)
            if (
                unit is None
            ):  # the standard's default depends on the meter; normal form's unit is always an eighth
                unit = (
                    Fraction(1, 2)
                    if standard and Fraction(*meter) < Fraction(3, 4)
                    else Fraction(1)
                )
        elif name == "V":
            raise ABCError("more than one voice", number)
    if key is None:
        raise ABCError("no K: line")
    if not any(isinstance(element, Note) and element.step != "z" for element in elements):
        raise ABCError("no notes")
    _resolve_tuplets(elements, meter)
    _untie_slurs(elements)
    return Tune(meter, key, tuple(elements))


def _parse_meter(value: str, number: int) -> tuple[int, int]:
    value = {"C": "4/4", "C|": "2/2"}.get(value, value)
    if not re.fullmatch(r"[1-9]\d?/(1|2|4|8|16)", value):
        raise ABCError(f"M:{value} is no meter such as 6/8", number)
    beats, beat = value.split("/")
    return int(beats), int(beat)


def _parse_key(value: str, number: int) -> str:
    match = re.fullmatch(r"([A-G][#b]?)\s*([A-Za-z]*)", value)
    mode = match and _MODE_WORDS.get("" if match[2] == "M" else match[2].lower()[:3])
    if mode is None:
        raise ABCError(f"K:{value} is no key such as G, Em or Ador", number)
    return match[1] + mode


def _read_notes(line: str, number: int, unit: Fraction, elements: list, state: dict) -> None:
    """Append one line's notes, tuplets and bar lines to `elements`. `state` carries `>` across the line's end."""
    position = 0
    while position < len(line):
        match = _TOKEN.match(line, position)
        column = position + 1
        if not match:
            character = line[position]
            known = character in ALPHABET + '"{}[]<>+&?@;XYZ'
            why = "is out of place" if known else f"(U+{ord(character):04X}) is not part of ABC"
            raise ABCError(
                f"character {character!r} {why}", number, column, "" if known else character
            )
        kind, token, position = match.lastgroup, match[0], match.end()
        if kind in ("note", "chord"):
            note = _read_note(token, unit, number, column)
            elements.append(replace(note, length=note.length * state["broken"]))
            state["broken"] = Fraction(1)
        elif kind == "broken":
            last = next(
                (i for i in range(len(elements) - 1, -1, -1) if isinstance(elements[i], Note)), None
            )
            if last is None:
                raise ABCError(f"{token} without a note before it", number, column)
            half = Fraction(1, 2 ** len(token))
            first, state["broken"] = (2 - half, half) if token[0] == ">" else (half, 2 - half)
            elements[last] = replace(elements[last], length=elements[last].length * first)
        elif kind == "tie":
            if elements and isinstance(elements[-1], Note):
                elements[-1] = replace(elements[-1], tie=elements[-1].step != "z")
        elif kind == "tuplet":
            elements.append(token)
        elif kind == "bar":
            line_ = _read_bar(token)
            if elements and isinstance(elements[-1], BarLine):
                last = elements.pop()
                line_ = BarLine(
                    *(a or b for a, b in zip(line_[:3], last[:3])), line_.ending or last.ending
                )
            # A repeat sign is drawn with two strokes anyway: written once, so that normal form is unique.
            repeat = line_.ends_repeat or line_.starts_repeat
            elements.append(line_._replace(double=line_.double and not repeat))


def _read_note(token: str, unit: Fraction, number: int, column: int) -> Note:
    if token[0] == "[":  # a chord: its highest note carries the melody
        inner, outer = token[1:].rsplit("]", 1)
        notes = [_read_note(part, unit, number, column) for part in re.findall(_NOTE, inner)]
        top = max(notes, key=lambda note: _midi(note, {}, 0))
        factor = _read_note("z" + outer.rstrip("-"), Fraction(1), number, column).length
        return replace(top, length=top.length * factor, tie=outer.endswith("-") or top.tie)
    accidental, step, octave, times, slashes, divisor = _NOTE_PARTS.fullmatch(token).groups()[:6]
    top, bottom = int(times or 1), int(divisor) if divisor else 2 ** len(slashes)
    if top == 0 or bottom == 0:
        raise ABCError(f"{token} has no length", number, column)
    rest = step in "zx"
    return Note(
        "z" if rest else step,
        Fraction(top, bottom) * unit,
        accidental or "",
        octave,
        token.endswith("-") and not rest,
    )


def _read_bar(token: str) -> BarLine:
    ending = token[-1] if token[-1].isdigit() else ""
    strokes = token.rstrip("[123456789 \t") if ending else token
    starts = strokes.endswith(":")
    ends = strokes.startswith(":")
    return BarLine(ends, starts, "||" in strokes or "|]" in strokes or "[|" in strokes, ending)


def _resolve_tuplets(elements: list, meter: tuple[int, int]) -> None:
    """Replace each raw `(p:q:r` by a Tuplet, with the standard's default for what it leaves out."""
    compound = meter[1] == 8 and meter[0] % 3 == 0 and meter[0] > 3
    times = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}
    for index, element in enumerate(elements):
        if isinstance(element, str):
            p, q, r = [*(int(part) if part else 0 for part in element[1:].split(":")), 0, 0][:3]
            if p < 2:
                raise ABCError(f"{element} is no tuplet")
            elements[index] = Tuplet(p, q or times.get(p, 3 if compound else 2), r or p)


def _untie_slurs(elements: list) -> None:
    """Drop each tie whose next note has another pitch: some transcribers wrote slurs so, and slurs are dropped."""
    notes = [index for index, element in enumerate(elements) if isinstance(element, Note)]
    for index, following in zip(notes, [*notes[1:], None]):
        note, other = elements[index], None if following is None else elements[following]
        if note.tie and (other is None or (note.step, note.octave) != (other.step, other.octave)):
            elements[index] = replace(note, tie=False)


def render(tune: Tune) -> str:
    """The tune in normal form: `M:6/8`, `K:Em`, one line of notes. `parse(render(tune)) == tune`."""
    body = "".join(map(_render_element, tune.elements))
    return f"M:{tune.meter[0]}/{tune.meter[1]}\nK:{tune.key}\n{body}"


def _render_element(element: Note | Tuplet | BarLine) -> str:
    if isinstance(element, Note):
        top, bottom = element.length.as_integer_ratio()
        length = ("" if top == 1 else str(top)) + {1: "", 2: "/"}.get(bottom, f"/{bottom}")
        return element.accidental + element.step + element.octave + length + "-" * element.tie
    if isinstance(element, Tuplet):
        plain = element == (3, 2, 3)
        return f"({element.p}" if plain else f"({element.p}:{element.of}:{element.notes}"
    if element.ends_repeat and element.starts_repeat:
        strokes = "::"
    elif element.ends_repeat:
        strokes = ":|"
    elif element.starts_repeat:
        strokes = "|:"
    else:
        strokes = "||" if element.double else "|"
    return strokes + element.ending


def _midi(note: Note, signature: dict[str, int], alteration: int | None = None) -> int:
    step = note.step.upper()
    octave = 12 * (note.step.islower() + note.octave.count("'") - note.octave.count(","))
    return (
        60
        + _SEMITONES[step]
        + octave
        + (signature.get(step, 0) if alteration is None else alteration)
    )
