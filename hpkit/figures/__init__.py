"""Pictures, each with a sentence that says what it shows."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.figures.base import Picture
    from hpkit.figures.charts import (
        bars_picture,
        curves_picture,
        histogram_picture,
        schedules_picture,
    )
    from hpkit.figures.judging import verdicts_picture
    from hpkit.figures.runs import loss_picture, piano_roll, runs_picture

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Picture"],
        "charts": ["bars_picture", "curves_picture", "histogram_picture", "schedules_picture"],
        "judging": ["verdicts_picture"],
        "runs": ["loss_picture", "piano_roll", "runs_picture"],
    },
)
