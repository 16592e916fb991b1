"""Rules about names, against the libraries' own errors."""

import dataclasses
import warnings

import pytest
from transformers import Trainer, TrainingArguments

from hpkit.preflight import Surroundings, Written
from hpkit.preflight.arguments import (
    DEPRECATED,
    MOVED_TO_CONFIG,
    SUCCESSORS,
    TRAINER_SUCCESSORS,
    TRL_SUCCESSORS,
)
from hpkit.preflight.forms import LEAVE_OUT, Form
from hpkit.preflight.libraries import training_argument_names
from hpkit.preflight.rules.gone import IN_PLACE_OF_IMPORTS

from ..support import Case, Rows, found, llama

SFT = Written(name="SFTConfig", origin="trl")
PINNED = Written(pins={"transformers": "==4.38.2"})
AXOLOTL = Written(
    origin="axolotl",
    tool="axolotl 0.19.0",
    fields=frozenset({"num_epochs", "sequence_len"}),
    form=Form("yaml", {"num_train_epochs": "num_epochs"}),
)
#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "removed-argument": Case(
        about=dict(warmup_ratio=0.1, evaluation_strategy="steps"),
        silent=dict(warmup_steps=0.1),
    ),
    "dropped-by-unsloth": Case(
        about=dict(evaluation_strategy="no"),
        known=dict(written=Written(name="SFTConfig", origin="trl", unsloth=True)),
        silent=dict(max_seq_length=512, warmup_ratio=0.1),
        known_of_silent=dict(written=Written(name="SFTConfig", origin="trl", unsloth=True)),
    ),
    "argument-too-new": Case(
        about=dict(eval_strategy="epoch"),
        known=dict(written=PINNED),
        silent=dict(evaluation_strategy="epoch"),
        known_of_silent=dict(written=PINNED),
        by_hand=True,
    ),
    "moved-argument": Case(
        about=dict(max_seq_length=2048),
        known=dict(written=Written(name="SFTTrainer", origin="trl", unread=("tokenizer",))),
        silent=dict(),
        known_of_silent=dict(
            written=Written(name="SFTTrainer", origin="trl", unread=("processing_class",))
        ),
        by_hand=True,  # another call gets it
    ),
    "deprecated-argument": Case(
        about=dict(gradient_checkpointing=True),
        silent=dict(activation_checkpointing=True),
    ),
    "unread-key": Case(
        about=dict(sequence_lenn=512),
        known=dict(written=AXOLOTL),
        silent=dict(liger_rope=True),
        known_of_silent=dict(written=AXOLOTL),
        by_hand=True,
    ),
    "gone-import": Case(
        about=dict(max_steps=500),
        known=dict(
            written=Written(around=Surroundings(gone_imports=(("trl", "ORPOConfig", "0.28.0"),)))
        ),
        silent=dict(max_steps=500),
        by_hand=True,
    ),
    "unread-field": Case(
        about=dict(warmup_ratio=0.03),
        known=dict(
            written=Written(
                name="Own",
                fields=frozenset({"warmup_ratio"}),
                has_own_fields=True,
                around=Surroundings(unread_fields=("warmup_ratio",)),
            )
        ),
        silent=dict(warmup_ratio=0.03),
        known_of_silent=dict(
            written=Written(name="Own", fields=frozenset({"warmup_ratio"}), has_own_fields=True)
        ),
        by_hand=True,
    ),
}
# An older transformers knows one name only, and there is nothing to be said.
if "activation_checkpointing" not in training_argument_names():
    CASES["deprecated-argument"] = None


def test_what_the_installed_libraries_refuse(tmp_path):
    for argument in SUCCESSORS:
        with pytest.raises(TypeError, match=argument):
            TrainingArguments(str(tmp_path), **{argument: None})
    arguments = TrainingArguments(str(tmp_path), use_cpu=True)
    for argument in TRAINER_SUCCESSORS:
        with pytest.raises(TypeError, match=argument):
            Trainer(model=llama(), args=arguments, **{argument: None})
    trl = pytest.importorskip("trl")
    for argument in ("max_seq_length", "use_liger", "chars_per_token", "model_name_or_path"):
        with pytest.raises(TypeError, match=argument):
            trl.SFTConfig(str(tmp_path), use_cpu=True, bf16=False, **{argument: None})
        assert "removed-argument" in found({argument: None}, written=SFT)
    for argument in MOVED_TO_CONFIG:
        with pytest.raises(TypeError, match=argument):
            trl.SFTTrainer(model=llama(), args=arguments, **{argument: None})


def test_successors_are_taken():
    """A fix must not name what is gone as well."""
    for old, successor in (SUCCESSORS | DEPRECATED).items():
        assert successor.argument is None or successor.argument in training_argument_names(), old
        assert successor.argument or successor.words, old
    trl = pytest.importorskip("trl")
    import dataclasses

    taken = set()
    for name in ("SFTConfig", "DPOConfig", "GRPOConfig", "KTOConfig", "ModelConfig"):
        taken |= {field.name for field in dataclasses.fields(getattr(trl, name))}
    for old, successor in TRL_SUCCESSORS.items():
        assert successor.argument is None or successor.argument in taken, old


def test_what_transformers_deprecates_is_said(tmp_path):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        TrainingArguments(str(tmp_path), use_cpu=True, gradient_checkpointing=True)
    said = any(
        "`gradient_checkpointing` is deprecated" in str(warning.message) for warning in warned
    )
    assert ("deprecated-argument" in found(dict(gradient_checkpointing=True))) == said


@dataclasses.dataclass
class Own(TrainingArguments):
    warmup_ratio: float = 0.5


@pytest.mark.slow
def test_a_field_of_a_subclass_is_no_warmup(tmp_path):
    """The line makes a field, no error comes, and the first update has the full rate."""
    arguments = Own(
        str(tmp_path),
        use_cpu=True,
        report_to="none",
        max_steps=8,
        logging_steps=1,
        learning_rate=1e-2,
        lr_scheduler_type="constant_with_warmup",
    )
    trainer = Trainer(model=llama(), args=arguments, train_dataset=Rows(8))
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert arguments.warmup_ratio == 0.5 and set(rates) == {1e-2}


def test_a_switch_that_was_off_is_left_out():
    run = dict(group_by_length=False, adafactor=False, no_cuda=False, torchdynamo=None)
    fixes = [finding.changes for finding in all_found(run) if finding.rule == "removed-argument"]
    assert fixes == [{name: LEAVE_OUT} for name in run]
    on = found(dict(group_by_length=True))["removed-argument"]
    assert on.fix.startswith('write train_sampling_strategy="group_by_length" in place of')


def all_found(run, **known):
    from hpkit.preflight import preflight

    return preflight(run, **known)


def test_an_old_name_counts_as_its_successor():
    """The other rules see one run, whatever its arguments are called."""
    run = dict(evaluation_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True)
    assert set(found(run)) == {"removed-argument"}
    old = dict(warmup_ratio=0.5, max_steps=100, logging_steps=5, per_gpu_train_batch_size=4)
    assert set(found(old)) == {"removed-argument", "warmup-over-third"}
    # Where both are written the new name counts, as in transformers 4.
    both = dict(warmup_ratio=0.5, warmup_steps=10, max_steps=100, logging_steps=5)
    assert "warmup-over-third" not in found(both)


def test_a_hint_on_an_upgrade_asks_for_nothing_today():
    """The new names would break the version that is pinned: 4.56 takes no share as warmup_steps."""
    run = dict(warmup_ratio=0.1, group_by_length=True, eval_strategy="no")
    pinned = Written(pins={"transformers": "==4.56.2"})
    (hint,) = all_found(run, written=pinned)
    assert hint.severity == "hint" and not hint.changes
    assert hint.message.startswith(
        "warmup_ratio, group_by_length work with transformers 4.56.2, which this file installs"
    )
    assert hint.fix.startswith("nothing with that version; with the upgrade write warmup_steps=0.1")


def test_an_argument_without_a_value_in_the_text_is_renamed():
    unread = Written(unread=("warmup_ratio",))
    assert (
        "call it warmup_steps, with the same value"
        in found({}, written=unread)["removed-argument"].fix
    )


def test_pins_decide():
    for pin, severity in (
        ("==4.56.2", "hint"),
        ("<5", "hint"),
        ("==4.38.2", "hint"),
        (">=4.40", "error"),
        ("~=5.20", "error"),
    ):
        fired = found(dict(warmup_ratio=0.1), written=Written(pins={"transformers": pin}))
        assert fired["removed-argument"].severity == severity, pin
    # Gone since 4.51, and so no hint on an upgrade.
    old = Written(pins={"transformers": "==4.56.2"})
    assert (
        found(dict(evaluation_strategy="no"), written=old)["removed-argument"].severity == "error"
    )
    beneath = Written(name="GRPOConfig", origin="trl", pins={"transformers": "==4.56.2"})
    assert found(dict(warmup_ratio=0.1), written=beneath)["removed-argument"].severity == "hint"


def test_a_name_of_today_in_the_library_of_yesterday():
    """Of transformers beneath a config of TRL as well, and of TRL itself."""
    pins = {"transformers": "==4.38.2", "trl": "==0.9.6"}
    sft = Written(name="SFTConfig", origin="trl", pins=pins)
    for argument, library in (("eval_strategy", "transformers"), ("max_length", "trl")):
        fired = found({argument: 1}, written=sft)
        assert set(fired) - {"invalid-value"} == {"argument-too-new"}, argument
        assert (
            f"{library} {pins[library][2:]}, which this file installs"
            in fired["argument-too-new"].message
        )
    assert "argument-too-new" not in found({"evaluation_strategy": "no"}, written=sft)


def test_only_the_libraries_own_classes_are_judged_by_their_fields():
    run = dict(batch_size=16, num_epochs=2, warmup_ratio=0.1)
    assert set(found(run)) == {"removed-argument"}
    assert not found(run, written=Written(origin=""))
    own = Written(name="Own", has_own_fields=True)
    (finding,) = all_found(run, written=own)
    assert finding.argument == "warmup_ratio"  # what transformers once took, the others may be own
    unsloth = Written(name="SFTConfig", origin="trl", unsloth=True)
    assert not found(dict(max_seq_length=512, warmup_ratio=0.1), written=unsloth)
    older = Written(name="SFTConfig", origin="trl", pins={"trl": "==0.19.1"})
    assert set(found(dict(max_seq_length=512), written=older)) == {"removed-argument"}
    # A class that the newest version does not have is gone with its import, not by its arguments.
    gone = Written(name="PPOConfig", origin="trl", pins={"trl": "==0.9.6"})
    assert not found(dict(batch_size=4, target=6), written=gone)


def test_a_fix_is_written_as_the_file_is():
    run = dict(evaluation_strategy="no", max_steps=500)
    for language, fix in (
        ("python", 'write eval_strategy="no" in place of evaluation_strategy'),
        ("yaml", 'write eval_strategy: "no" in place of evaluation_strategy'),
        ("json", 'write "eval_strategy": "no" in place of evaluation_strategy'),
        ("flags", "write --eval_strategy no in place of evaluation_strategy"),
    ):
        fired = found(run, written=Written(form=Form(language)))["removed-argument"]
        assert fired.fix == fix


def test_imports_that_are_gone_cannot_be_imported():
    trl = pytest.importorskip("trl")
    import transformers

    for name in IN_PLACE_OF_IMPORTS:
        library = transformers if name.startswith(("Adam", "Auto")) else trl
        assert not hasattr(library, name), name
