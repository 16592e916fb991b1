"""Sliders over computed and recorded runs, each widget with its picture in or beside its file."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.widgets.base import Interactive
    from hpkit.widgets.cadence import CadenceExplorer
    from hpkit.widgets.formats import FormatExplorer
    from hpkit.widgets.memory import MemoryExplorer
    from hpkit.widgets.prediction import Prediction
    from hpkit.widgets.quantization import QuantizationExplorer
    from hpkit.widgets.runs import RunExplorer
    from hpkit.widgets.schedule import ScheduleExplorer

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Interactive"],
        "cadence": ["CadenceExplorer"],
        "formats": ["FormatExplorer"],
        "memory": ["MemoryExplorer"],
        "prediction": ["Prediction"],
        "quantization": ["QuantizationExplorer"],
        "runs": ["RunExplorer"],
        "schedule": ["ScheduleExplorer"],
    },
)
