"""What notebooks ask and claim, what is made from the cards, and benchmarks."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.lessons.benchmarks import benchmark_picture, load_benchmarks
    from hpkit.lessons.claims import check, ledger_table, load_claims, read_ledger
    from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point
    from hpkit.lessons.predictions import Question, calibration
    from hpkit.lessons.register import EXERCISES, check_answer, check_cure
    from hpkit.lessons.sheets import cheat_sheet, glossary, questions

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "benchmarks": ["benchmark_picture", "load_benchmarks"],
        "claims": ["check", "ledger_table", "load_claims", "read_ledger"],
        "exercise": ["BrokenRun", "Exercise", "usual_point"],
        "predictions": ["Question", "calibration"],
        "register": ["EXERCISES", "check_answer", "check_cure"],
        "sheets": ["cheat_sheet", "glossary", "questions"],
    },
)
