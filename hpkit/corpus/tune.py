"""A tune as Python sees it: notes, tuplets and bar lines, in the order written."""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

# Semitones from `C` up to each step.
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True)
class Note:
    """A note as written; `length` in eighths, before any tuplet. A rest has the step `z`."""

    step: str
    length: Fraction
    accidental: str = ""
    octave: str = ""
    tie: bool = False

    @property
    def natural_pitch(self) -> int:
        """MIDI number without the accidental and the key's signature: 60 for `C`, 72 for `c`."""
        octave = self.octave.count("'") - self.octave.count(",")
        if self.step.islower():
            octave += 1
        return 60 + _SEMITONES[self.step.upper()] + 12 * octave


class Tuplet(NamedTuple):
    """The next `notes` notes share the time of `of` of their kind; `(3` is p=3 in the time of 2."""

    p: int
    of: int
    notes: int


class BarLine(NamedTuple):
    """A bar line.

    Does a repeat end or start here, is it double, which ending (`1`, `2`) begins?
    """

    ends_repeat: bool = False
    starts_repeat: bool = False
    double: bool = False
    ending: str = ""

    @property
    def section(self) -> bool:
        """True where a section of the tune begins or ends: bars beside it may be incomplete."""
        return self.ends_repeat or self.starts_repeat or self.double


@dataclass(frozen=True)
class Tune:
    """One tune: `meter` as (6, 8), `key` as `Em` or `Ador`, `elements` in the order written."""

    meter: tuple[int, int]
    key: str
    elements: tuple[Note | Tuplet | BarLine, ...]
