"""What is wrong with a run before it runs: findings, each with its number and the change that mends it."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.preflight.plan import Plan, preflight, preflight_callback
    from hpkit.preflight.rules import Finding

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "plan": ["Plan", "preflight", "preflight_callback"],
        "rules": ["Finding"],
    },
)
