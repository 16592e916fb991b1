"""What is drawn, for the tests that look at it."""

import pytest

from hpkit.figures import charts, judging
from hpkit.figures.base import rendered


@pytest.fixture
def figures(monkeypatch):
    """The figures that were drawn: a picture itself has nothing but its bytes and its words."""
    made = []

    def noted(figure, alt):
        made.append(figure)
        return rendered(figure, alt)

    for module in (charts, judging):
        monkeypatch.setattr(module, "rendered", noted)
    return made
