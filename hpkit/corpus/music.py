"""What a tune says and how it sounds: its bars, a verdict on them, its melody, a file of sound."""

import re
import wave
from fractions import Fraction
from typing import NamedTuple

from hpkit.corpus.notation import (
    _ALTERATION,
    _FIFTHS,
    _MODES,
    ABCError,
    BarLine,
    Note,
    Tune,
    Tuplet,
    _midi,
    parse,
)


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
        """Is the bar as long as the meter says? None for a short edge bar, which nobody can judge alone."""
        return None if self.edge and self.duration < self.full else self.duration == self.full


class Verdict(NamedTuple):
    """What the checker says of one text: does it parse (`problem` says why not), and how many bars add up.

    A text that does not parse still has bars, as many as its bar lines cut off; none of them adds up.
    """

    parses: bool
    bars: int
    bars_valid: int
    problem: str = ""

    def __str__(self) -> str:
        if not self.parses:
            return f"does not parse: {self.problem}"
        return f"parses; {self.bars_valid} of {self.bars} bars add up"


def _timed(tune: Tune):
    """Yield (element, start, duration) with tuplets applied, in eighths; bar lines last nothing."""
    now, factor, left = Fraction(0), Fraction(1), 0
    for element in tune.elements:
        if isinstance(element, Tuplet):
            factor, left = Fraction(element.of, element.p), element.notes
            continue
        duration = Fraction(0)
        if isinstance(element, Note):
            duration = element.length * (factor if left else 1)
            left = max(0, left - 1)
        yield element, now, duration
        now += duration


def bars(tune: Tune) -> list[Bar]:
    """The bars of the tune as written (repeats not played twice); an empty one does not count."""
    full = Fraction(*tune.meter) * 8
    result, start, after_section, now = [], Fraction(0), True, Fraction(0)
    for element, begin, duration in _timed(tune):
        now = begin + duration
        if isinstance(element, BarLine):
            if now > start:
                result.append(Bar(start, now - start, full, after_section or element.section))
            start, after_section = now, element.section
    if now > start:
        result.append(Bar(start, now - start, full, True))
    # The last bar closes the tune even under a plain bar line.
    return [*result[:-1], result[-1]._replace(edge=True)] if result else []


def judge(text: str) -> Verdict:
    """Does the text parse as a tune, and how many of the bars that can be judged add up to the meter?"""
    try:
        judged = [bar.adds_up for bar in bars(parse(text)) if bar.adds_up is not None]
    except ABCError as error:
        return Verdict(False, len(re.findall(r"[^|]+(?=\|)", text)), 0, str(error))
    return Verdict(True, len(judged), sum(judged))


def _signature(key: str) -> dict[str, int]:
    """Semitones by which the key alters each step: `{"F": 1}` for G."""
    tonic, mode = re.fullmatch(r"([A-G][#b]?)(.*)", key).groups()
    fifths = _FIFTHS[tonic[0]] + {"#": 7, "b": -7}.get(tonic[1:], 0) + _MODES[mode]
    altered = "FCGDAEB"[:fifths] if fifths > 0 else "BEADGCF"[:-fifths]
    return dict.fromkeys(altered, 1 if fifths > 0 else -1)


def melody(tune: Tune) -> list[tuple[int, float, float]]:
    """What sounds: (MIDI pitch, start, duration) of each note, times in eighths, ties joined, repeats once.

    An accidental holds for its step and octave until the bar ends, as the standard says.
    """
    signature, held, result, tied = _signature(tune.key), {}, [], False
    for element, start, duration in _timed(tune):
        if isinstance(element, BarLine):
            held = {}
            continue
        if element.step == "z":
            tied = False
            continue
        place = element.step + element.octave
        if element.accidental:
            held[place] = _ALTERATION[element.accidental]
        pitch = _midi(element, signature, held.get(place))
        if tied and result and result[-1][0] == pitch:
            result[-1] = (pitch, result[-1][1], result[-1][2] + float(duration))
        else:
            result.append((pitch, float(start), float(duration)))
        tied = element.tie
    return result


def tune_book(texts: list[str], titles: list[str]) -> str:
    """Normal-form texts as one standard ABC file, readable by any ABC program; four bars to a line."""
    tunes = []
    for number, (text, title) in enumerate(zip(texts, titles), 1):
        head, _, body = text.partition("K:")
        key, _, notes = body.partition("\n")
        notes = re.sub(r"((?:[^|]*\|+:?[1-9]?){4})", r"\1\n", notes).rstrip("\n")
        tunes.append(f"X:{number}\nT:{title}\n{head}L:1/8\nK:{key}\n{notes}\n")
    return "\n".join(tunes)


def write_wav(tune: Tune, file, eighths_per_second: float = 4.0, rate: int = 22_050) -> None:
    """Write the melody to `file` (a path or binary file) as 16-bit mono WAV: a plucked tone of five harmonics.

    At most the first two minutes sound: a model may write a note of any length.
    """
    import numpy as np

    limit = 120 * eighths_per_second
    seconds = [
        (pitch, start / eighths_per_second, min(length, limit - start) / eighths_per_second)
        for pitch, start, length in melody(tune)
        if start < limit
    ]
    end = max(start + length for _, start, length in seconds) + 0.5
    sound = np.zeros(int(end * rate) + 1)
    for pitch, start, length in seconds:
        time = np.arange(int((length + 0.15) * rate)) / rate
        frequency = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(
            np.sin(2 * np.pi * k * frequency * time) / k**2
            for k in range(1, 6)
            if k * frequency < rate / 2
        )
        envelope = (
            np.minimum(time / 0.008, 1)
            * np.exp(-2.5 * time)
            * np.clip((length + 0.15 - time) / 0.15, 0, 1)
        )
        first = int(start * rate)
        sound[first : first + len(time)] += (tone * envelope)[: len(sound) - first]
    samples = (sound / np.abs(sound).max() * 0.8 * 32767).astype("<i2")
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
