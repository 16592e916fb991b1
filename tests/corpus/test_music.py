"""ABC against music21, which reads it independently, and against the identities that normal form promises."""

import io
import re
import wave
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpkit.corpus import load_corpus, music, notation

HISTORICAL = "airdsAirs+oneills1850+ryansMammoth"


def body(abc: str) -> str:
    return notation.render(music.parse(f"M:4/4\nK:C\n{abc}")).split("\n")[2]


@pytest.mark.parametrize(
    "written, normal",
    [
        ("A>B c<d", "A3/B/c/d3/"),
        ("A>>B", "A7/4B/4"),
        ("A/2 B// c3/4", "A/B/4c3/4"),
        ("(3ABc (3:2:4ABcd", "(3ABc(3:2:4ABcd"),
        ('"Am"A !trill!B {cd}e ~f .g', "ABefg"),
        ("(AB) (cd)", "ABcd"),
        ("[CEg]2 [A2c2]", "g2c2"),
        ("A-|A", "A-|A"),
        ("A-B c-|d", "ABc|d"),
        ("|: A :| |: B :|", "|:A::B:|"),
        ("A |1 B :|2 c ||", "A|1B:|2c||"),
        ("A | [1 B :| [2 c |]", "A|1B:|2c||"),
        ("^F =F _B ^^c", "^F=F_B^^c"),
        ("xA z2", "zAz2"),
        ("c'd'' C,,", "c'd''C,,"),
    ],
)
def test_normal_form(written, normal):
    assert body(written) == normal
    assert body(normal) == normal


@pytest.mark.parametrize(
    "text, line, why",
    [
        ("M:6/8\nK:G\nAB?c", 3, "out of place"),
        ("M:6/8\nK:G\nAB☃c", 3, r"U\+2603"),
        ("M:6/8\nK:G\nAB\nK:D\nc", 4, "key changes"),
        ("M:6/8\nK:G\nAB\nM:3/4\nc", 4, "meter changes"),
        ("M:6/8\nK:Hp\nAB", 2, "no key"),
        ("M:six\nK:G\nAB", 1, "no meter"),
        ("K:G\nAB", 1, "no M: line"),
        ("M:6/8\nK:G\n||", 1, "no notes"),
        ("M:6/8\nAB", 2, "before the K: line"),
        ("M:6/8\nK:G\nV:2\nAB", 3, "voice"),
        ("M:6/8\nK:G\nA0", 3, "no length"),
        ("M:6/8\nK:G\nA/00", 3, "no length"),
        ("M:6/8\nK:G\nA1234", 3, "out of place"),
        ("M:6/8\nL:1/0\nK:G\nA", 2, "no unit length"),
        ("M:6/8\nK:G\n>A", 3, "without a note"),
        ("", 1, "no K: line"),
    ],
)
def test_what_is_no_tune_says_where(text, line, why):
    with pytest.raises(music.ABCError, match=why) as caught:
        music.parse(text)
    assert caught.value.line == line
    assert not music.judge(text).parses


def test_default_unit_depends_on_the_meter_in_standard_abc_only():
    assert music.parse("X:1\nM:2/4\nK:C\nA").elements[0].length == Fraction(1, 2)
    assert music.parse("X:1\nM:6/8\nK:C\nA").elements[0].length == 1
    assert music.parse("M:2/4\nK:C\nA").elements[0].length == 1


@pytest.mark.slow
def test_every_tune_survives_the_round_trip():
    for name in (HISTORICAL, "aksak"):
        for text in load_corpus(name).documents:
            tune = music.parse(text)
            assert notation.render(tune) == text
            assert (
                music.parse(music.tune_book([text], ["a title"])) == tune
            )  # lines broken, and a unit length written
            assert set(text) <= set(notation.ALPHABET)


def music21_reading(text: str):
    """(bar lengths in eighths, MIDI pitches) as music21 reads the tune: its bar splitter, then its score."""
    from music21 import abcFormat, converter

    # Files without a version are read by old rules, under which an accidental does not last.
    abc = "%abc-2.1\n%%propagate-accidentals octave\n" + music.tune_book([text], ["t"])
    abc = re.sub(r":[:|]", r" \g<0>", abc)  # it takes the `G:` of `G::` for a header field
    handler = abcFormat.ABCHandler()
    handler.process(abc)

    def length(note) -> Fraction:
        tuplet = Fraction(note.activeTuplet.tupletMultiplier() if note.activeTuplet else 1)
        return (
            2 * Fraction(note.quarterLength).limit_denominator(960) * tuplet.limit_denominator(960)
        )

    lengths = [
        sum(length(token) for token in bar.tokens if isinstance(token, abcFormat.ABCNote))
        for bar in handler.splitByMeasure()
    ]
    notes = [
        note
        for note in converter.parse(abc, format="abc").flatten().notes
        if not (note.tie and note.tie.type in ("stop", "continue"))
    ]
    return [length for length in lengths if length], [note.pitch.midi for note in notes]


@pytest.mark.slow
def test_bars_and_pitches_are_those_of_music21():
    documents = load_corpus(HISTORICAL).documents
    drawn = [*documents[::10], *load_corpus("aksak").documents[::10]]
    assert len(drawn) > 400
    disagreeing, bars, valid = [], 0, 0
    for text in drawn:
        tune = music.parse(text)
        ours = [bar.duration for bar in music.bars(tune)]
        theirs, pitches = music21_reading(text)
        if ours != theirs or [pitch for pitch, _, _ in music.melody(tune)] != pitches:
            disagreeing.append(text)
        verdict = music.judge(text)
        bars, valid = bars + verdict.bars, valid + verdict.bars_valid
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
    assert [pitch for pitch, _, _ in music.melody(tune)] == [66, 73, 73, 65, 65, 72, 66, 78]


@pytest.mark.parametrize(
    "key",
    [
        f"{tonic}{mode}"
        for tonic in ("C", "D", "Bb", "F#")
        for mode in ("", "m", "dor", "mix", "phr", "lyd")
    ],
)
def test_key_signatures_are_those_of_music21(key):
    import music21

    mode = {
        "": "major",
        "m": "minor",
        "dor": "dorian",
        "mix": "mixolydian",
        "phr": "phrygian",
        "lyd": "lydian",
    }[key.lstrip("ABCDEFGb#")]
    tonic = key[: 2 if key[1:2] in ("b", "#") else 1]
    theirs = music21.key.Key(tonic.replace("b", "-"), mode).sharps
    signature = music._signature(key)
    if abs(theirs) <= 7:
        assert sum(signature.values()) == theirs


def test_sound_has_the_pitch_and_length_written():
    file = io.BytesIO()
    music.write_wav(music.parse("M:4/4\nK:C\nA8|"), file)
    with wave.open(io.BytesIO(file.getvalue())) as sound:
        rate, samples = (
            sound.getframerate(),
            np.frombuffer(sound.readframes(sound.getnframes()), "<i2"),
        )
    spectrum = np.abs(np.fft.rfft(samples[: 2 * rate]))
    assert spectrum.argmax() * rate / (2 * rate) == pytest.approx(440, abs=1)
    assert len(samples) / rate == pytest.approx(8 / 4 + 0.5, abs=0.01)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(
    st.text(notation.ALPHABET + '[]{}<>"&+?.%☃', max_size=60),
    st.sampled_from(["M:6/8\nK:Em\n", "X:1\nM:2/4\nK:D\n", "L:1/16\nM:C|\nK:G\n", ""]),
)
def test_no_text_breaks_the_reader(text, head):
    """A model may write anything: it is a tune, with bars, melody and normal form, or an ABCError with its place."""
    try:
        tune = music.parse(head + text)
    except music.ABCError as error:
        assert error.line >= 1 and error.column >= 1
        return
    assert music.bars(tune) and music.melody(tune)
    assert notation.render(music.parse(notation.render(tune))) == notation.render(tune)


def test_sound_ends_after_two_minutes():
    file = io.BytesIO()
    music.write_wav(music.parse("M:4/4\nK:C\nA999B999c999|"), file)
    with wave.open(io.BytesIO(file.getvalue())) as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(120.5, abs=0.01)
