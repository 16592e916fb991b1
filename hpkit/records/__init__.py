"""Recorded runs: grids of settings, trained once, kept in a table that a slider reads."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.records.comparison import Band, Comparison, SeedsSpread, band, compare, seeds_spread
    from hpkit.records.grids import Grid, Point, load_grids
    from hpkit.records.parts import merge, recorded_runs
    from hpkit.records.planning import plan
    from hpkit.records.recording import record, record_point
    from hpkit.records.studies import choose, judge
    from hpkit.records.table import Runs, load_runs
    from hpkit.records.verdict import Difference, difference

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "comparison": ["Band", "Comparison", "SeedsSpread", "band", "compare", "seeds_spread"],
        "grids": ["Grid", "Point", "load_grids"],
        "parts": ["merge", "recorded_runs"],
        "planning": ["plan"],
        "recording": ["record", "record_point"],
        "studies": ["choose", "judge"],
        "table": ["Runs", "load_runs"],
        "verdict": ["Difference", "difference"],
    },
)
