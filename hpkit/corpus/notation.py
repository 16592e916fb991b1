"""ABC tunes: read them, and write them in normal form.

ABC writes a tune as text: `M:6/8` is the meter, `K:Em` the key, letters are notes, a `2` behind a
letter doubles it, `|` ends a bar. Normal form keeps just that: a meter line, a key line, one line
of notes counted in eighths.
Grammar: ABC standard 2.1 (2011), https://abcnotation.com/wiki/abc:standard:v2.1
"""

import re
from dataclasses import replace
from fractions import Fraction

from hpkit.corpus.tune import BarLine, Note, Tune, Tuplet

#: Every character that normal form can hold. All ten digits are in, though the historical corpora
#: lack some.
ALPHABET = "\n#'(,-/0123456789:=ABCDEFGKM^_abcdefghilmoprxyz|"

# The first three letters of a mode count, in any case: `K:A dorian`, `K:ADor`.
_MODE_WORDS = {
    "": "",
    "maj": "",
    "ion": "",
    "m": "m",
    "min": "m",
    "aeo": "m",
    "lyd": "lyd",
    "mix": "mix",
    "dor": "dor",
    "phr": "phr",
}

# Three digits are more than music needs, and less than a model can babble.
_LENGTH = r"\d{0,3}(?:/{1,4}\d{0,3})?"
_NOTE = rf"(?:\^\^|\^|__|_|=)?[A-Ga-g][,']*{_LENGTH}-?"
_NOTE_PARTS = re.compile(r"(\^\^|\^|__|_|=)?([A-Ga-gzx])([,']*)(\d*)(/*)(\d*)(-?)")
# A `[` may begin a field, a chord or a bar line: the alternatives are tried in this order.
_TOKEN = re.compile(
    r'(?P<skip>"[^"]*"|![^!|]*!|\+[^+|]*\+|\{[^}]*\}|\[[IPNRrU]:[^]]*\]|y\d*'
    r"|[\s`~.\\!*$]|[H-WYh-w])"
    r"|(?P<tuplet>\(\d(?::\d?)?(?::\d?)?)"
    r"|(?P<slur>[()])"
    rf"|(?P<chord>\[(?:[\s~.]*{_NOTE})+\s*\]{_LENGTH}-?)"
    rf"|(?P<note>{_NOTE}|[zx]{_LENGTH})"
    r"|(?P<tie>-)"
    r"|(?P<broken>>+|<+)"
    r"|(?P<bar>(?:\[\||[|:])[|:\]]*(?:\s*\[?[1-9])?|\[[1-9])"
)
# A line of notes may begin with a letter and a bar line, as `A:|`.
_FIELD = re.compile(r"([A-Za-z]):(?![|:])\s*(.*)")


class ABCError(ValueError):
    """Text that is not one tune in one voice, key and meter.

    `line` and `column` count from 1 in the text given. `character` is set when the cause is a
    character that no ABC tune body can hold.
    """

    def __init__(self, why: str, line: int = 1, column: int = 1, character: str = ""):
        super().__init__(f"line {line}, column {column}: {why}")
        self.why = why
        self.line = line
        self.column = column
        self.character = character


def parse(text: str) -> Tune:
    """Read one tune: with an `X:` line as standard ABC, without one as normal form.

    Normal form's unit is an eighth. Graces, slurs, beams, decorations, titles and chord symbols are
    passed over; of a chord the highest note stays; `A>B` becomes the lengths it means. Raises
    ABCError on anything else.
    """
    reader = _TuneReader()
    for number, line in enumerate(text.splitlines(), 1):
        # Behind a `%` stands a comment.
        reader.read_line(line.split("%")[0], number)
    return reader.tune()


class _TuneReader:
    """What is known of a tune so far, line by line. Numbers of lines and columns count from 1."""

    def __init__(self):
        self.standard = False  # an X: line was read
        self.meter: tuple[int, int] | None = None
        self.unit: Fraction | None = None  # length of a plain letter, in eighths
        self.key: str | None = None
        # Tuplets stay as written, `(3:2:3`, until the tune is whole.
        self.elements: list[Note | str | BarLine] = []
        # What the `>` or `<` before it makes of the next note, which may stand on the next line.
        self.next_factor = Fraction(1)

    def read_line(self, line: str, number: int) -> None:
        field = _FIELD.match(line)
        if field:
            self.read_field(field[1], field[2].strip(), number)
            return
        if line.strip() and self.key is None:
            raise ABCError("notes before the K: line", number)
        self.read_notes(line, number)

    def read_field(self, name: str, value: str, number: int) -> None:
        match name:
            case "X":
                self.standard = True
            case "M":
                meter = _parse_meter(value, number)
                if self.elements and meter != self.meter:
                    raise ABCError("the meter changes within the tune", number)
                self.meter = meter
            case "L":
                if not re.fullmatch(r"1/[1-9]\d{0,2}", value):
                    raise ABCError(f"L:{value} is no unit length such as 1/8", number)
                self.unit = Fraction(value) * 8
            case "K":
                self.read_key(value, number)
            case "V":
                raise ABCError("more than one voice", number)

    def read_key(self, value: str, number: int) -> None:
        key = _parse_key(value, number)
        if self.key is not None and key != self.key:
            raise ABCError("the key changes within the tune", number)
        self.key = key
        if self.meter is None:
            raise ABCError("no M: line before K:", number)
        if self.unit is None:
            self.unit = Fraction(1)
            # The standard's default depends on the meter; normal form's is always an eighth.
            if self.standard and Fraction(*self.meter) < Fraction(3, 4):
                self.unit = Fraction(1, 2)

    def read_notes(self, line: str, number: int) -> None:
        position = 0
        while position < len(line):
            found = _TOKEN.match(line, position)
            column = position + 1
            if not found:
                raise _out_of_place(line[position], number, column)
            position = found.end()
            token = found[0]
            match found.lastgroup:
                case "note" | "chord":
                    note = _read_note(token, self.unit, number, column)
                    self.elements.append(replace(note, length=note.length * self.next_factor))
                    self.next_factor = Fraction(1)
                case "broken":
                    self.break_rhythm(token, number, column)
                case "tie":
                    self.tie()
                case "tuplet":
                    self.elements.append(token)
                case "bar":
                    self.add_bar_line(_read_bar_line(token))
                case _:
                    pass  # "skip" and "slur" leave no trace in normal form

    def break_rhythm(self, token: str, number: int, column: int) -> None:
        """`A>B`: three halves and a half; `A>>B`: seven quarters and a quarter; `<` mirrored."""
        last = self.last_note()
        if last is None:
            raise ABCError(f"{token} without a note before it", number, column)
        short = Fraction(1, 2 ** len(token))
        long = 2 - short
        factor = short
        self.next_factor = long
        if token[0] == ">":
            factor = long
            self.next_factor = short
        note = self.elements[last]
        self.elements[last] = replace(note, length=note.length * factor)

    def last_note(self) -> int | None:
        for index in reversed(range(len(self.elements))):
            if isinstance(self.elements[index], Note):
                return index
        return None

    def tie(self) -> None:
        """A `-` that stands apart from its note, as behind a space; a rest cannot be tied."""
        if self.elements and isinstance(self.elements[-1], Note):
            last = self.elements[-1]
            self.elements[-1] = replace(last, tie=last.step != "z")

    def add_bar_line(self, line: BarLine) -> None:
        """Add a bar line; two that follow one another, as `| |:`, are one."""
        if self.elements and isinstance(self.elements[-1], BarLine):
            before = self.elements.pop()
            line = BarLine(
                ends_repeat=line.ends_repeat or before.ends_repeat,
                starts_repeat=line.starts_repeat or before.starts_repeat,
                double=line.double or before.double,
                ending=line.ending or before.ending,
            )
        # A repeat sign is drawn with two strokes anyway: written once, so that normal form is
        # unique.
        if line.ends_repeat or line.starts_repeat:
            line = line._replace(double=False)
        self.elements.append(line)

    def tune(self) -> Tune:
        """The tune, now that every line is read."""
        if self.key is None:
            raise ABCError("no K: line")
        if not any(isinstance(each, Note) and each.step != "z" for each in self.elements):
            raise ABCError("no notes")
        _resolve_tuplets(self.elements, self.meter)
        _untie_slurs(self.elements)
        return Tune(self.meter, self.key, tuple(self.elements))


def _out_of_place(character: str, number: int, column: int) -> ABCError:
    if character in ALPHABET + '"{}[]<>+&?@;XYZ':
        return ABCError(f"character {character!r} is out of place", number, column)
    why = f"character {character!r} (U+{ord(character):04X}) is not part of ABC"
    return ABCError(why, number, column, character)


def _parse_meter(value: str, number: int) -> tuple[int, int]:
    value = {"C": "4/4", "C|": "2/2"}.get(value, value)
    if not re.fullmatch(r"[1-9]\d?/(1|2|4|8|16)", value):
        raise ABCError(f"M:{value} is no meter such as 6/8", number)
    beats, beat = value.split("/")
    return int(beats), int(beat)


def _parse_key(value: str, number: int) -> str:
    """The tonic and normal form's word for the mode: `Ador` of `A Dorian`."""
    match = re.fullmatch(r"([A-G][#b]?)\s*([A-Za-z]*)", value)
    mode = None
    if match:
        word = match[2].lower()[:3]
        if match[2] == "M":  # the one word whose case counts: `GM` is major, `Gm` minor
            word = ""
        mode = _MODE_WORDS.get(word)
    if mode is None:
        raise ABCError(f"K:{value} is no key such as G, Em or Ador", number)
    return match[1] + mode


def _read_note(token: str, unit: Fraction, number: int, column: int) -> Note:
    if token[0] == "[":
        return _read_chord(token, unit, number, column)
    accidental, step, octave, times, slashes, divisor, tie = _NOTE_PARTS.fullmatch(token).groups()
    top = int(times or 1)
    bottom = 2 ** len(slashes)  # `A//` is a quarter of A
    if divisor:
        bottom = int(divisor)
    if top == 0 or bottom == 0:
        raise ABCError(f"{token} has no length", number, column)
    length = Fraction(top, bottom) * unit
    if step in "zx":  # `x` is a rest that is not printed
        return Note("z", length)
    return Note(step, length, accidental=accidental or "", octave=octave, tie=tie == "-")


def _read_chord(token: str, unit: Fraction, number: int, column: int) -> Note:
    """The highest note of a chord, which carries the melody, with the length of the whole."""
    inner, outer = token[1:].rsplit("]", 1)
    notes = [_read_note(part, unit, number, column) for part in re.findall(_NOTE, inner)]
    top = max(notes, key=lambda note: note.natural_pitch)
    # Behind the bracket stands a length, as behind a letter: read as that of a rest.
    factor = _read_note("z" + outer.rstrip("-"), Fraction(1), number, column).length
    return replace(top, length=top.length * factor, tie=outer.endswith("-") or top.tie)


def _read_bar_line(token: str) -> BarLine:
    ending = ""
    strokes = token
    if token[-1].isdigit():
        ending = token[-1]
        strokes = token.rstrip("[123456789 \t")
    return BarLine(
        ends_repeat=strokes.startswith(":"),
        starts_repeat=strokes.endswith(":"),
        double="||" in strokes or "|]" in strokes or "[|" in strokes,
        ending=ending,
    )


def _resolve_tuplets(elements: list, meter: tuple[int, int]) -> None:
    """Replace each `(p:q:r` as written by a Tuplet, with the standard's default for the rest.

    p, q and r are the standard's names: p notes in the time of q, for the next r notes.
    """
    beats, beat = meter
    compound = beat == 8 and beats % 3 == 0 and beats > 3
    time_of = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}
    time_of_others = 2
    if compound:
        time_of_others = 3
    for index, element in enumerate(elements):
        if isinstance(element, str):
            p, q, r = _tuplet_numbers(element)
            if p < 2:
                raise ABCError(f"{element} is no tuplet")
            elements[index] = Tuplet(p, of=q or time_of.get(p, time_of_others), notes=r or p)


def _tuplet_numbers(written: str) -> list[int]:
    """p, q and r of `(p:q:r`, where each but p may be left out: 0."""
    numbers = [int(part or 0) for part in written[1:].split(":")]
    while len(numbers) < 3:
        numbers.append(0)
    return numbers


def _untie_slurs(elements: list) -> None:
    """Drop each tie whose next note has another pitch: some transcribers wrote slurs so."""
    following = None
    for index in reversed(range(len(elements))):
        note = elements[index]
        if not isinstance(note, Note):
            continue
        same_pitch = following is not None and (
            (note.step, note.octave) == (following.step, following.octave)
        )
        if note.tie and not same_pitch:
            elements[index] = replace(note, tie=False)
        following = note


def render(tune: Tune) -> str:
    """The tune in normal form: `M:6/8`, `K:Em`, one line of notes.

    `parse(render(tune)) == tune`.
    """
    body = "".join(map(_render_element, tune.elements))
    beats, beat = tune.meter
    return f"M:{beats}/{beat}\nK:{tune.key}\n{body}"


def _render_element(element: Note | Tuplet | BarLine) -> str:
    if isinstance(element, Note):
        return _render_note(element)
    if isinstance(element, Tuplet):
        if element == Tuplet(3, of=2, notes=3):
            return "(3"
        return f"({element.p}:{element.of}:{element.notes}"
    return _render_bar_line(element)


def _render_note(note: Note) -> str:
    text = note.accidental + note.step + note.octave
    top, bottom = note.length.as_integer_ratio()
    if top != 1:
        text += str(top)
    if bottom == 2:
        text += "/"
    elif bottom != 1:
        text += f"/{bottom}"
    if note.tie:
        text += "-"
    return text


def _render_bar_line(line: BarLine) -> str:
    if line.ends_repeat and line.starts_repeat:
        strokes = "::"
    elif line.ends_repeat:
        strokes = ":|"
    elif line.starts_repeat:
        strokes = "|:"
    elif line.double:
        strokes = "||"
    else:
        strokes = "|"
    return strokes + line.ending
