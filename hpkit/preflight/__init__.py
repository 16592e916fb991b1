"""What is wrong with a run before it runs: findings with their numbers and what mends them."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.preflight.findings import preflight, preflight_callback
    from hpkit.preflight.plan import Plan
    from hpkit.preflight.register import Finding
    from hpkit.preflight.written import Surroundings, Written

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "findings": ["preflight", "preflight_callback"],
        "plan": ["Plan"],
        "register": ["Finding"],
        "written": ["Surroundings", "Written"],
    },
)
