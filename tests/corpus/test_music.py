"""Bars, melody and sound against music21, which reads tunes independently, and against numpy."""

import io
import re
import wave
from fractions import Fraction

import numpy as np
import pytest

from hpkit.corpus import load_corpus, music

HISTORICAL = "airdsAirs+oneills1850+ryansMammoth"

#: Normal form's word for a mode -> music21's.
MODES = {
    "": "major",
    "m": "minor",
    "dor": "dorian",
    "mix": "mixolydian",
    "phr": "phrygian",
    "lyd": "lydian",
}


def pitches_of(tune) -> list[int]:
    return [pitch for pitch, _, _ in music.melody(tune)]


def music21_reading(text: str):
    """(bar lengths in eighths, MIDI pitches) as music21 reads the tune.

    The lengths are its bar splitter's, the pitches its score's.
    """
    from music21 import abcFormat, converter

    # Files without a version are read by old rules, under which an accidental does not last.
    abc = "%abc-2.1\n%%propagate-accidentals octave\n" + music.tune_book([text], ["t"])
    abc = re.sub(r":[:|]", r" \g<0>", abc)  # it takes the `G:` of `G::` for a header field
    handler = abcFormat.ABCHandler()
    handler.process(abc)

    lengths = []
    for bar in handler.splitByMeasure():
        notes = [token for token in bar.tokens if isinstance(token, abcFormat.ABCNote)]
        length = sum(length_by_music21(note) for note in notes)
        if length:
            lengths.append(length)
    pitches = []
    for note in converter.parse(abc, format="abc").flatten().notes:
        # It gives each note of a tied pair, where a melody has one.
        if not note.tie or note.tie.type not in ("stop", "continue"):
            pitches.append(note.pitch.midi)
    return lengths, pitches


def length_by_music21(note) -> Fraction:
    """A note's length in eighths. music21 computes in floats, so thirds are to be found again."""
    length = 2 * Fraction(note.quarterLength).limit_denominator(960)
    if note.activeTuplet:
        length *= Fraction(note.activeTuplet.tupletMultiplier()).limit_denominator(960)
    return length


@pytest.mark.slow
def test_bars_and_pitches_are_those_of_music21():
    documents = load_corpus(HISTORICAL).documents
    drawn = [*documents[::10], *load_corpus("aksak").documents[::10]]
    assert len(drawn) > 400
    disagreeing = []
    bars = 0
    valid = 0
    for text in drawn:
        tune = music.parse(text)
        ours = [bar.duration for bar in music.bars(tune)]
        theirs, pitches = music21_reading(text)
        if ours != theirs or pitches_of(tune) != pitches:
            disagreeing.append(text)
        verdict = music.judge(text)
        bars += verdict.bars
        valid += verdict.bars_valid
    assert not disagreeing, (
        f"{len(disagreeing)} of {len(drawn)} tunes, the first: {disagreeing[0]!r}"
    )
    assert valid / bars > 0.97  # printed music, transcribed by hand: nearly every bar adds up


def test_edge_bars_may_be_short_but_not_long():
    assert music.judge("M:2/4\nK:C\nA|ABcd|ABc:|") == music.Verdict(True, 1, 1)
    assert music.judge("M:2/4\nK:C\nABcdA|ABcd|ABc|ABcd|") == music.Verdict(True, 4, 2)
    assert music.judge("M:2/4\nK:C\nABcd|A?cd|ABcd|").bars_valid == 0


def test_accidentals_hold_until_the_bar_ends():
    tune = music.parse("M:4/4\nK:G\nF^c c=F F|c F|f")
    assert pitches_of(tune) == [66, 73, 73, 65, 65, 72, 66, 78]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tonic", ["C", "D", "Bb", "F#"])
def test_key_signatures_are_those_of_music21(tonic, mode):
    import music21

    theirs = music21.key.Key(tonic.replace("b", "-"), MODES[mode]).sharps
    naturals = pitches_of(music.parse("M:4/4\nK:C\nCDEFGAB|"))
    in_key = pitches_of(music.parse(f"M:4/4\nK:{tonic}{mode}\nCDEFGAB|"))
    if abs(theirs) <= 7:
        assert sum(in_key) - sum(naturals) == theirs


def test_sound_has_the_pitch_and_length_written():
    file = io.BytesIO()
    music.write_wav(music.parse("M:4/4\nK:C\nA8|"), file)
    with wave.open(io.BytesIO(file.getvalue())) as sound:
        rate = sound.getframerate()
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    spectrum = np.abs(np.fft.rfft(samples[: 2 * rate]))
    assert spectrum.argmax() * rate / (2 * rate) == pytest.approx(440, abs=1)
    assert len(samples) / rate == pytest.approx(8 / 4 + 0.5, abs=0.01)


def test_sound_ends_after_two_minutes():
    file = io.BytesIO()
    music.write_wav(music.parse("M:4/4\nK:C\nA999B999c999|"), file)
    with wave.open(io.BytesIO(file.getvalue())) as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(120.5, abs=0.01)
