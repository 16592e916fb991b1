"""`hpkit check`: training arguments of scripts, notebooks, recipes and launch lines, held against
the rules.

The files are read and never run. A script: cells (its text as one tree), names (what a name stands
for), values, containers, functions, options and expressions (what an expression is worth),
surroundings, adapter_facts, tokenizers, rows and pins (what the code around says), subclasses,
scripts (the calls). Settings of other tools: dialects, configs, launches. Then files (which ones,
and how each is read), started (a script with its recipe), ignoring, report (the findings), output,
settings, explain, command.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.check.calls import Call
    from hpkit.check.output import as_json, as_text
    from hpkit.check.report import check_file, check_recipe, measure
    from hpkit.check.scripts import read_calls

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calls": ["Call"],
        "output": ["as_json", "as_text"],
        "report": ["check_file", "check_recipe", "measure"],
        "scripts": ["read_calls"],
    },
)
