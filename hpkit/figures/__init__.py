"""Pictures, each with a sentence that says what it shows."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.figures.base import Picture, loss_picture, piano_roll
    from hpkit.figures.charts import bars_picture, curves_picture, histogram_picture, schedules_picture

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Picture", "loss_picture", "piano_roll"],
        "charts": ["bars_picture", "curves_picture", "histogram_picture", "schedules_picture"],
    },
)
