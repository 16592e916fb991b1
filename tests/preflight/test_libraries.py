"""What the libraries take, against those that are installed."""

import dataclasses
import importlib
import inspect

import pytest
import transformers

from hpkit.preflight.arguments import SUCCESSORS
from hpkit.preflight.libraries import (
    Version,
    first_with,
    known_classes,
    last_import,
    last_with,
    names_of,
    optimizer_names,
    takes,
    training_argument_names,
    version_in_force,
)
from hpkit.preflight.rules.gone import EXPERIMENTS

NEWEST = Version("999", pinned=True)


def test_the_names_that_transformers_takes():
    fields = dataclasses.fields(transformers.Seq2SeqTrainingArguments)
    assert training_argument_names() == {field.name for field in fields if field.init}
    assert not training_argument_names() & set(SUCCESSORS)
    assert optimizer_names() == {name.value for name in transformers.training_args.OptimizerNames}


def taken_by(installed: type) -> set[str]:
    """What a class that is installed takes."""
    if dataclasses.is_dataclass(installed):
        return {field.name for field in dataclasses.fields(installed) if field.init}
    return set(inspect.signature(installed.__init__).parameters) - {"self"}


def test_the_table_is_that_of_the_installed_trl():
    """tests/check/signatures.py makes it anew where this fails."""
    trl = pytest.importorskip("trl")
    compared = 0
    for name in known_classes("trl"):
        alive = names_of("trl", name)
        if not alive or not hasattr(trl, name):
            continue
        compared += 1
        taken = taken_by(getattr(trl, name))
        # TRL's own fields are in the table, the inherited ones in transformers'.
        assert alive <= taken, name
        assert taken - alive <= training_argument_names(), name
        for argument in taken:
            assert last_with("trl", name, argument) is None or argument in training_argument_names()
    assert compared >= 15
    for name in ("ORPOConfig", "setup_chat_format", "DataCollatorForCompletionOnlyLM"):
        assert last_import("trl", name) and not hasattr(trl, name)
    assert last_import("trl", "SFTConfig") is None
    for method, module in EXPERIMENTS.items():
        experiment = importlib.import_module(f"trl.experimental.{module}")
        assert hasattr(experiment, f"{method}Config") and hasattr(experiment, f"{method}Trainer")


def test_the_table_is_that_of_the_installed_peft():
    peft = pytest.importorskip("peft")
    assert names_of("peft", "LoraConfig") == taken_by(peft.LoraConfig)


def test_the_table_is_that_of_the_installed_transformers():
    """Where another is installed than the table's newest, no name that is still taken is gone."""
    for name in ("TrainingArguments", "Trainer", "Seq2SeqTrainer"):
        taken = taken_by(getattr(transformers, name))
        missing = {one for one in taken if last_with("transformers", name, one) is not None}
        assert not missing


@pytest.mark.parametrize(
    "pin, version, pinned",
    [
        ("==4.56.2", "4.56.2", True),
        ("==4.43.1", "4.43.4", True),  # the table has the last release of each minor version
        ("<5", "4.57.6", True),
        ("<=4.45.0", "4.44.2", True),
        ("~=4.40.0", "4.40.2", True),
        (">=4.40", None, False),
        (">=99", None, False),
        ("not a pin", None, False),
    ],
)
def test_the_version_in_force(pin, version, pinned):
    import importlib.metadata

    in_force = version_in_force("transformers", {"transformers": pin})
    newest = importlib.metadata.version("transformers")
    assert in_force == Version(version or newest, pinned)


def test_since_when_and_until_when():
    """From the release notes: 4.41 renamed evaluation_strategy, 4.51 dropped it; TRL 0.20 dropped
    max_seq_length.
    """

    def transformers_of(text):
        return Version(text, pinned=True)

    name = "TrainingArguments"
    assert first_with("transformers", name, "eval_strategy").startswith("4.41")
    assert takes("transformers", name, "evaluation_strategy", transformers_of("4.45.2"))
    assert not takes("transformers", name, "evaluation_strategy", transformers_of("4.52.4"))
    assert not takes("transformers", name, "eval_strategy", transformers_of("4.38.2"))
    assert takes("trl", "SFTConfig", "max_seq_length", Version("0.19.1", True))
    assert takes("trl", "SFTConfig", "max_seq_length", Version("0.20.0", True)) is False
    # A version without the class has no answer.
    assert takes("trl", "ORPOConfig", "beta", Version("1.16.0", True)) is None
