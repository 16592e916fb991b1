"""Recorded runs: grids of settings, trained once, kept in a table that a slider reads."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.records.comparison import Band, Comparison, band, compare
    from hpkit.records.grids import Grid, Point, load_grids
    from hpkit.records.recording import merge, plan, record, record_point, recorded_keys
    from hpkit.records.table import Runs, load_runs

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "comparison": ["Band", "Comparison", "band", "compare"],
        "grids": ["Grid", "Point", "load_grids"],
        "recording": ["merge", "plan", "record", "record_point", "recorded_keys"],
        "table": ["Runs", "load_runs"],
    },
)
