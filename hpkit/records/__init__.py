"""Recorded runs: grids of settings, trained once, kept in a table that a slider reads."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.records.table import (
        Band,
        Comparison,
        Grid,
        Point,
        Runs,
        band,
        compare,
        load_grids,
        load_runs,
        merge,
        plan,
        record,
        record_point,
        recorded_keys,
    )

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "table": [
            "Band",
            "Comparison",
            "Grid",
            "Point",
            "Runs",
            "band",
            "compare",
            "load_grids",
            "load_runs",
            "merge",
            "plan",
            "record",
            "record_point",
            "recorded_keys",
        ],
    },
)
