"""The changes of a report, made together: none contradicts another, and no error is left."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpkit.hyperparameters import SCHEDULERS
from hpkit.preflight import Surroundings, Written, preflight
from hpkit.preflight.arguments import DEPRECATED, SUCCESSORS
from hpkit.preflight.rules import ALL_RULES
from hpkit.recipe import NOTES, STARTER, Recipe

from .rules.test_cases import CASES
from .support import mended_by_all

#: What no value of an argument mends: code is to be moved or written, data to be found.
BY_HAND = {
    "moved-argument",
    "gone-import",
    "argument-too-new",
    "adapter-not-applied",
    "quantized-without-adapter",
    "bits-argument-gone",
    "adapter-frozen",
    "adapter-rank",
    "fp16-adapter-unscaled",
    "fp16-weights-unscaled",
    "unread-key",
    "keys-exclude",
    "halves-swapped",
    "memory-over-free",
    "accumulation-miscounts-loss",
    "disk-filled",
}
NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 10, 60, 100, 494, 500, 2000, 0.1, 0.5, 1.5, -1, None])
WORDS = st.sampled_from(["no", "steps", "epoch", "best", "step", False, None])
VALUES = {
    "per_device_train_batch_size": st.sampled_from([1, 2, 8, 16, 64, 0, "4"]),
    "gradient_accumulation_steps": st.sampled_from([1, 2, 4, 32, 1000]),
    "num_train_epochs": st.sampled_from([1, 3, 0.5, -1, "2"]),
    "max_steps": st.sampled_from([-1, 0, 1, 5, 60, 500, None]),
    "learning_rate": st.sampled_from([1e-8, 1e-7, 2e-5, 1e-3, "2e-5", 0, None]),
    "warmup_steps": NUMBERS,
    "warmup_ratio": st.sampled_from([0.03, 0.1, 0.9, 0]),
    "lr_scheduler_type": st.sampled_from([*SCHEDULERS, "lineal"]),
    "weight_decay": st.sampled_from([0, 0.01, 5, -1]),
    "optim": st.sampled_from(["adamw_torch", "adamw_8bit", "paged_adamw_8bit", "adam8bit"]),
    "bf16": st.booleans(),
    "fp16": st.booleans(),
    "use_cpu": st.booleans(),
    "no_cuda": st.booleans(),
    "logging_steps": NUMBERS,
    "eval_strategy": WORDS,
    "evaluation_strategy": WORDS,
    "eval_steps": NUMBERS,
    "save_strategy": WORDS,
    "save_steps": NUMBERS,
    "save_total_limit": st.sampled_from([None, 0, 1, 2]),
    "load_best_model_at_end": st.booleans(),
    "metric_for_best_model": st.sampled_from(["f1", "loss", "accuracy"]),
    "group_by_length": st.booleans(),
    "gradient_checkpointing": st.booleans(),
    "num_generations": st.sampled_from([2, 3, 8]),
    "lerning_rate": st.just(1e-4),
}
RUNS = st.fixed_dictionaries({}, optional=VALUES)
AROUND = st.sampled_from(
    [
        Surroundings(),
        Surroundings(streaming=True),
        Surroundings(metrics=("accuracy",)),
        Surroundings(examples=150),
        Surroundings(adapter="LoraConfig"),
    ]
)
CLASSES = st.sampled_from(
    [("TrainingArguments", "transformers"), ("SFTConfig", "trl"), ("GRPOConfig", "trl")]
)


def check_together(run, known: dict):
    """No two findings ask for different values, and made together they leave no error."""
    findings = preflight(run, **known)
    asked = {}
    for finding in findings:
        for argument, value in finding.changes.items():
            assert repr(asked.setdefault(argument, value)) == repr(value), (argument, run)
        assert finding.fix
    after = preflight(mended_by_all(run, findings), **known)
    left = [one for one in after if one.severity == "error" and one.rule not in BY_HAND]
    assert not left, (run, [str(one) for one in findings], [str(one) for one in left])


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(
    RUNS,
    st.sampled_from([None, 1, 100, 640, 52_000]),
    AROUND,
    CLASSES,
    st.sampled_from([None, "t4", "cpu"]),
)
@example(
    dict(load_best_model_at_end=True, eval_strategy="steps", eval_steps=500, max_steps=240),
    None,
    Surroundings(),
    ("TrainingArguments", "transformers"),
    None,
)
def test_drawn_configurations(run, examples, around, named, device):
    name, origin = named
    written = Written(name=name, origin=origin, around=around)
    check_together(run, dict(examples=examples, device=device, written=written))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([NOTES, STARTER, Recipe()]),
    st.sampled_from([1, 100, 640, 52_000]),
    st.sampled_from([1, 5, 60, 2000]),
    st.sampled_from([0, 0.1, 50, 2000]),
)
def test_drawn_recipes(recipe, examples, updates, warmup):
    check_together(recipe.replace(max_steps=updates, warmup_steps=warmup), dict(examples=examples))


@pytest.mark.parametrize("rule", [rule.name for rule in ALL_RULES])
def test_every_rule_beside_every_other(rule):
    """Two faults in one run, each with its change: made together they mend both."""
    case = CASES[rule]
    if case is None or not isinstance(case.about, dict) or "written" in case.known:
        return
    for other, its_case in CASES.items():
        if its_case is None or not isinstance(its_case.about, dict) or other == rule:
            continue
        check_together({**its_case.about, **case.about}, case.known | its_case.known)


def test_old_names_are_mended_with_the_rest():
    names = [*SUCCESSORS, *DEPRECATED]
    run = dict.fromkeys(names, True)
    check_together(run, {})
