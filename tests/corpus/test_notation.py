"""ABC in and out: the identities that normal form promises, and what is no tune."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpkit.corpus import load_corpus, music, notation


def body(abc: str) -> str:
    return notation.render(notation.parse(f"M:4/4\nK:C\n{abc}")).split("\n")[2]


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
    with pytest.raises(notation.ABCError, match=why) as caught:
        notation.parse(text)
    assert caught.value.line == line
    assert not music.judge(text).parses


def test_default_unit_depends_on_the_meter_in_standard_abc_only():
    assert notation.parse("X:1\nM:2/4\nK:C\nA").elements[0].length == Fraction(1, 2)
    assert notation.parse("X:1\nM:6/8\nK:C\nA").elements[0].length == 1
    assert notation.parse("M:2/4\nK:C\nA").elements[0].length == 1


@pytest.mark.slow
def test_every_tune_survives_the_round_trip():
    for name in ("airdsAirs+oneills1850+ryansMammoth", "aksak"):
        for text in load_corpus(name).documents:
            tune = notation.parse(text)
            assert notation.render(tune) == text
            # A tune book breaks its lines, and writes a unit length.
            assert notation.parse(music.tune_book([text], ["a title"])) == tune
            assert set(text) <= set(notation.ALPHABET)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(
    st.text(notation.ALPHABET + '[]{}<>"&+?.%☃', max_size=60),
    st.sampled_from(["M:6/8\nK:Em\n", "X:1\nM:2/4\nK:D\n", "L:1/16\nM:C|\nK:G\n", ""]),
)
def test_no_text_breaks_the_reader(text, head):
    """A model may write anything.

    It is a tune, with bars, melody and normal form, or an ABCError with its place.
    """
    try:
        tune = notation.parse(head + text)
    except notation.ABCError as error:
        assert error.line >= 1 and error.column >= 1
        return
    assert music.bars(tune) and music.melody(tune)
    assert notation.render(notation.parse(notation.render(tune))) == notation.render(tune)
