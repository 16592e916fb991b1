"""Pictures of runs: their words come from their numbers; the same numbers give the same bytes."""

from hpkit import figures
from hpkit.corpus import music

HISTORY = [
    {"step": 0, "eval_loss": 2.0},
    {"step": 10, "loss": 1.5, "learning_rate": 1e-3},
    {"step": 20, "loss": 1.2, "learning_rate": 5e-4},
    {"step": 20, "eval_loss": 1.3},
]


def test_loss_picture():
    picture = figures.loss_picture(HISTORY)
    assert picture.alt == (
        "Loss and learning rate: training loss 1.5 at update 10, 1.2 at update 20; "
        "evaluation loss 2 at update 0, 1.3 at update 20; "
        "learning rate 0.001 at update 10, 0.0005 at update 20, highest 0.001 at update 10."
    )
    assert picture.png == figures.loss_picture(HISTORY).png
    assert picture.png != figures.loss_picture(HISTORY[:2]).png
    assert "nothing was logged" in figures.loss_picture([]).alt


def test_loss_picture_draws_nan_as_a_gap():
    spoilt = [*HISTORY, {"step": 30, "loss": float("nan"), "learning_rate": 1e-4}]
    assert "nan at update 30" in figures.loss_picture(spoilt).alt


def test_piano_roll():
    tune = music.parse("M:2/4\nK:G\nG|ABcd|efgab|c4|")
    picture = figures.piano_roll(tune, "a tune")
    words = "11 notes in 4 bars of 2/4 in G, from MIDI pitch 67 to 83; bars that do not add up: 1"
    assert words in picture.alt
    assert picture.png.startswith(b"\x89PNG")
