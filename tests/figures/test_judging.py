"""The picture of verdicts: what is drawn is what was given, and the words say the same."""

from hpkit.figures import verdicts_picture


def test_both_panels_are_drawn_in_percent(figures):
    alarms = {"paired": [(2, 0.05), (5, 0.051)], "spread": [(2, 0.22), (5, 0.004)]}
    power = {"3 seeds": [(0, 0.025), (2, 0.475), (6, 0.995)]}
    picture = verdicts_picture(alarms, power)
    left, right = figures[0].axes
    paired, spread, _ = (line.get_xydata().tolist() for line in left.lines)
    assert (paired, spread) == ([[2, 5.0], [5, 5.1]], [[2, 22.0], [5, 0.4]])
    assert right.lines[0].get_xydata().tolist() == [[0, 2.5], [2, 47.5], [6, 99.5]]
    assert left.get_title(loc="left") == "false alarms (%)"
    assert right.get_title(loc="left") == "differences seen (%)"
    looks = {(line.get_linestyle(), line.get_marker()) for line in left.lines[:2]}
    assert len(looks) == 2  # told apart without colour
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["paired", "spread"]
    assert picture.alt == (
        "Verdicts, false alarms over seeds and power over size. paired: 5 % at 2, 5.1 % at 5; "
        "spread: 22 % at 2, 0.4 % at 5; 3 seeds: 2.5 % at 0, 99.5 % at 6."
    )
