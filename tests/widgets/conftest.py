"""What the tests of the widgets share."""

import ipywidgets
import pytest

from hpkit.widgets import Interactive


@pytest.fixture(autouse=True)
def errors_are_raised(monkeypatch):
    """A test fails where a reader would see the message in the widget."""
    monkeypatch.setattr(Interactive, "raise_errors", True)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """No prediction of another test is kept."""
    monkeypatch.setenv("HPKIT_CACHE", str(tmp_path))


def positions(control) -> list:
    """Where a hand can move it: every option, of a slider both ends and some places between."""
    options = [option[1] if isinstance(option, tuple) else option for option in control.options]
    if isinstance(control, ipywidgets.SelectionSlider):
        assert options == sorted(set(options)) and len(options) > 9
        last = len(options) - 1
        options = [options[round(share * last)] for share in (0, 0.13, 0.31, 0.5, 0.77, 1)]
    return options


def drawings(explorer) -> list:
    """A list that grows with each drawing from now on."""
    drawn = []
    draw = explorer._figure.draw

    def counted(*args, **kwargs):
        drawn.append(args)
        return draw(*args, **kwargs)

    explorer._figure.draw = counted
    return drawn


def shown_in_page(explorer) -> str:
    """The HTML of everything but the controls."""
    return explorer._error.value + explorer._image.value + explorer._words.value
