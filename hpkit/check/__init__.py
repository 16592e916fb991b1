"""`hpkit check`: training arguments of scripts and notebooks, held against the rules.

The files are read and never run. From text to findings: cells (a file's text as one tree), names
(what a name stands for), values, containers, options and expressions (what an expression is
worth), scripts (the calls), report (the findings).
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.check.report import as_json, as_text, check_file, check_recipe, measure
    from hpkit.check.scripts import Call, read_calls

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "report": ["as_json", "as_text", "check_file", "check_recipe", "measure"],
        "scripts": ["Call", "read_calls"],
    },
)
