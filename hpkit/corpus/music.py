"""What a tune says and how it sounds: its bars, a verdict on them, its melody, a file of sound."""

import re
import wave
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from hpkit.corpus.notation import ABCError, parse
from hpkit.corpus.tune import BarLine, Note, Tune, Tuplet

_ALTERATION = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}
_FIFTHS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
# A mode is a major scale begun elsewhere: its signature lies this many fifths from the tonic's
# major.
_MODES = {"": 0, "lyd": 1, "mix": -1, "dor": -2, "m": -3, "phr": -4}


class Bar(NamedTuple):
    """What lies between two bar lines: where it starts and how long it is, in eighths.

    An edge bar lies beside a section's start or end, where a pick-up or its complement is lawful.
    """

    start: Fraction
    duration: Fraction
    full: Fraction
    edge: bool

    @property
    def adds_up(self) -> bool | None:
        """Is the bar as long as the meter says?

        None for a short edge bar, which nobody can judge alone.
        """
        if self.edge and self.duration < self.full:
            return None
        return self.duration == self.full


class Verdict(NamedTuple):
    """What the checker says of one text: does it parse, and how many bars add up.

    A text that does not parse, for the reason `problem`, still has bars, as many as its bar lines
    cut off; none of them adds up.
    """

    parses: bool
    bars: int
    bars_valid: int
    problem: str = ""

    def __str__(self) -> str:
        if not self.parses:
            return f"does not parse: {self.problem}"
        return f"parses; {self.bars_valid} of {self.bars} bars add up"


def judge(text: str) -> Verdict:
    """Does the text parse as a tune, and how many of the bars that can be judged add up?"""
    try:
        tune = parse(text)
    except ABCError as error:
        cut_off = re.findall(r"[^|]+(?=\|)", text)
        return Verdict(parses=False, bars=len(cut_off), bars_valid=0, problem=str(error))
    judged = [bar.adds_up for bar in bars(tune) if bar.adds_up is not None]
    return Verdict(parses=True, bars=len(judged), bars_valid=sum(judged))


def bars(tune: Tune) -> list[Bar]:
    """The bars of the tune as written (repeats not played twice); an empty one does not count."""
    full = Fraction(*tune.meter) * 8
    found = []
    start = Fraction(0)
    now = Fraction(0)
    after_section = True
    for element, begin, duration in _timed(tune):
        now = begin + duration
        if isinstance(element, BarLine):
            if now > start:
                edge = after_section or element.section
                found.append(Bar(start, now - start, full, edge))
            start = now
            after_section = element.section
    if now > start:
        found.append(Bar(start, now - start, full, edge=True))
    if found:
        # The last bar closes the tune even under a plain bar line.
        found[-1] = found[-1]._replace(edge=True)
    return found


def _timed(tune: Tune) -> Iterator[tuple[Note | BarLine, Fraction, Fraction]]:
    """(element, start, duration) with tuplets applied, in eighths; bar lines last nothing."""
    now = Fraction(0)
    factor = Fraction(1)
    left = 0  # notes that the tuplet at hand still has
    for element in tune.elements:
        if isinstance(element, Tuplet):
            factor = Fraction(element.of, element.p)
            left = element.notes
            continue
        duration = Fraction(0)
        if isinstance(element, Note):
            duration = element.length
            if left:
                duration *= factor
                left -= 1
        yield element, now, duration
        now += duration


def melody(tune: Tune) -> list[tuple[int, float, float]]:
    """What sounds: (MIDI pitch, start, duration) of each note, ties joined, repeats once.

    Times in eighths. An accidental holds for its step and octave until the bar ends, as the
    standard says.
    """
    signature = _signature(tune.key)
    accidentals = {}  # of this bar: step and octave -> semitones
    sounding = []
    tied = False
    for element, start, duration in _timed(tune):
        if isinstance(element, BarLine):
            accidentals = {}
            continue
        if element.step == "z":
            tied = False
            continue
        place = element.step + element.octave
        if element.accidental:
            accidentals[place] = _ALTERATION[element.accidental]
        alteration = accidentals.get(place, signature.get(element.step.upper(), 0))
        pitch = element.natural_pitch + alteration
        # A tie between two pitches is none: the reader compares what is written, and an accidental
        # may end with the bar between.
        if tied and sounding and sounding[-1][0] == pitch:
            _, first_start, first_duration = sounding[-1]
            sounding[-1] = (pitch, first_start, first_duration + float(duration))
        else:
            sounding.append((pitch, float(start), float(duration)))
        tied = element.tie
    return sounding


def _signature(key: str) -> dict[str, int]:
    """Semitones by which the key alters each step: `{"F": 1}` for G."""
    tonic, mode = re.fullmatch(r"([A-G][#b]?)(.*)", key).groups()
    fifths = _FIFTHS[tonic[0]] + _MODES[mode]
    # A sharp on the tonic sharpens all seven steps of its scale.
    if tonic.endswith("#"):
        fifths += 7
    elif tonic.endswith("b"):
        fifths -= 7
    if fifths > 0:
        return dict.fromkeys("FCGDAEB"[:fifths], 1)
    return dict.fromkeys("BEADGCF"[:-fifths], -1)


def tune_book(texts: list[str], titles: list[str]) -> str:
    """Normal-form texts as one standard ABC file, readable by any ABC program; four bars a line."""
    tunes = []
    for number, (text, title) in enumerate(zip(texts, titles), 1):
        # Cut at the key, not parsed: a model's sample need not be a tune to be printed.
        head, _, rest = text.partition("K:")
        key, _, notes = rest.partition("\n")
        notes = re.sub(r"((?:[^|]*\|+:?[1-9]?){4})", r"\1\n", notes).rstrip("\n")
        tunes.append(f"X:{number}\nT:{title}\n{head}L:1/8\nK:{key}\n{notes}\n")
    return "\n".join(tunes)


def write_wav(tune: Tune, file, eighths_per_second: float = 4.0, rate: int = 22_050) -> None:
    """Write the melody to `file`, a path or binary file, as 16-bit mono WAV of `rate` samples/s.

    At most the first two minutes sound: a model may write a note of any length.
    """
    import numpy as np

    limit = 120 * eighths_per_second
    notes = []  # (pitch, start, length), in seconds
    for pitch, start, length in melody(tune):
        if start < limit:
            length = min(length, limit - start)
            notes.append((pitch, start / eighths_per_second, length / eighths_per_second))
    end = max(start + length for _, start, length in notes) + 0.5
    sound = np.zeros(int(end * rate) + 1)
    for pitch, start, length in notes:
        tone = _plucked(pitch, length, rate)
        first = int(start * rate)
        sound[first : first + len(tone)] += tone[: len(sound) - first]
    # Four fifths of full scale, so that no player clips.
    samples = (sound / np.abs(sound).max() * 0.8 * 32767).astype("<i2")
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())


def _plucked(pitch: int, length: float, rate: int):
    """A tone of five harmonics as an array; it fades out within 0.15 s after its length, in s."""
    import numpy as np

    time = np.arange(int((length + 0.15) * rate)) / rate
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    tone = 0
    for harmonic in range(1, 6):
        # What lies above half the rate would be heard as a lower tone.
        if harmonic * frequency < rate / 2:
            tone += np.sin(2 * np.pi * harmonic * frequency * time) / harmonic**2
    attack = np.minimum(time / 0.008, 1)
    decay = np.exp(-2.5 * time)
    release = np.clip((length + 0.15 - time) / 0.15, 0, 1)
    return tone * (attack * decay * release)
