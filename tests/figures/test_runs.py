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


OTHER = [
    {"step": 0, "eval_loss": 2.0},
    {"step": 10, "loss": 1.6},
    {"step": 20, "loss": None},
    {"step": 20, "eval_loss": None},
]


def test_runs_picture():
    picture = figures.runs_picture({"a": HISTORY, "b": OTHER})
    assert picture.alt == (
        "Losses of 2 runs. "
        "evaluation loss: a: 2 at update 0, 1.3 at update 20; "
        "b: 2 at update 0, no number at 1 point from update 20 on. "
        "training loss, mean since the last point: a: 1.5 at update 10, 1.2 at update 20; "
        "b: 1.6 at update 10, no number at 1 point from update 20 on."
    )
    assert picture.png == figures.runs_picture({"a": HISTORY, "b": OTHER}).png
    assert picture.png != figures.runs_picture({"a": HISTORY, "b": HISTORY[:2]}).png
    noted = figures.runs_picture({"a": HISTORY, "b": []}, ", not to be compared")
    assert "evaluation loss, not to be compared: a: 2 at" in noted.alt
    assert noted.alt.count("b: nothing was logged") == 2


def test_the_lines_of_two_runs_differ_without_colour(monkeypatch):
    """And a folder of any length leaves its name's end in the key."""
    drawn = {}

    def keep(figure, alt):
        drawn["figure"] = figure
        return alt

    monkeypatch.setattr("hpkit.figures.runs.rendered", keep)
    figures.runs_picture({"a": HISTORY, "long/" * 40 + "end": HISTORY})
    for axes in drawn["figure"].axes:
        looks = {(line.get_linestyle(), line.get_marker()) for line in axes.get_lines()}
        assert len(looks) == 2
    figure = drawn["figure"]
    figure.canvas.draw()
    for text in figure.legends[0].get_texts():
        assert text.get_window_extent().x1 <= figure.bbox.x1
    assert figure.legends[0].get_texts()[1].get_text().endswith("long/end")


def test_piano_roll():
    tune = music.parse("M:2/4\nK:G\nG|ABcd|efgab|c4|")
    picture = figures.piano_roll(tune, "a tune")
    words = "11 notes in 4 bars of 2/4 in G, from MIDI pitch 67 to 83; bars that do not add up: 1"
    assert words in picture.alt
    assert picture.png.startswith(b"\x89PNG")
