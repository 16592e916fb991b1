"""A run that breaks says so: since which update, and what to try; a run that worsens says that."""

import json
import math
import re

import pytest

from hpkit.__main__ import main
from hpkit.finetune import finetune
from hpkit.finetune.run import Run

from .conftest import SMALL

FAST = SMALL.replace(optim="adamw_torch", save_strategy="no", eval_strategy="no", warmup_steps=0)


def command(model, corpus, out, **changes) -> list[str]:
    words = ["finetune", "--model", model, "--corpus", corpus, "--out", str(out)]
    for name, value in (vars(FAST) | changes).items():
        if value is not None:
            words += [f"--{name}", json.dumps(value).strip('"')]
    return words


def test_a_run_that_diverges_says_since_when(tiny_model, few_tunes, tmp_path, capsys):
    wild = dict(learning_rate=1e30, max_grad_norm=0.0, bf16=False)
    words = command(tiny_model, few_tunes, tmp_path / "each", logging_steps=1, **wild)
    assert main(words) == 3
    each = Run.load(tmp_path / "each")
    broken = [entry["step"] for entry in each.history if entry.get("loss", 0) is None]
    # The log, which here has every update, is the truth.
    assert each.diverged and broken[0] == each.diverged_since > 1
    capsys.readouterr()
    words = command(tiny_model, few_tunes, tmp_path / "rare", logging_steps=50, **wild)
    assert main(words) == 3
    said, _ = capsys.readouterr()
    assert "evaluation loss after: nan" in said and "above where it began" not in said
    assert Run.load(tmp_path / "rare").diverged_since == broken[0]
    (line,) = re.findall("^diverged: .*", said, re.M)
    assert f"diverged: since update {broken[0]} of 12" in line
    assert each.what_to_try in line and "learning_rate=1.0e-3" in line and "max_grad_norm=1" in line


def test_one_loss_that_is_no_number_is_told_and_the_log_goes_on(
    tiny_model, few_tunes, tmp_path, monkeypatch
):
    """Its update is left out, as a GPU in fp16 does, so that the weights stay whole."""
    from transformers import Trainer

    real = Trainer.training_step

    def training_step(trainer, *args, **kwargs):
        loss = real(trainer, *args, **kwargs)
        return loss * math.nan if trainer.state.global_step == 4 else loss

    monkeypatch.setattr(Trainer, "training_step", training_step)
    recipe = FAST.replace(logging_steps=1)
    run = finetune(recipe, tiny_model, few_tunes, tmp_path / "out", log=None)
    losses = {entry["step"]: entry["loss"] for entry in run.history if "loss" in entry}
    assert [step for step, loss in losses.items() if not math.isfinite(loss)] == [5]
    assert run.diverged and run.diverged_since == 5 and math.isfinite(run.eval_loss_after)
    assert Run.load(tmp_path / "out").diverged


def test_weights_that_break_in_the_last_update_are_told(tiny_model, few_tunes, tmp_path):
    recipe = FAST.replace(learning_rate=1e30, max_steps=1, max_grad_norm=0.0)
    run = finetune(recipe, tiny_model, few_tunes, tmp_path / "out", log=None)
    assert run.diverged and run.diverged_since == 1
    assert all(math.isfinite(entry["loss"]) for entry in run.history if "loss" in entry)


def test_a_run_of_before_this_field_tells_by_its_losses(tiny_model, few_tunes, tmp_path):
    run = finetune(FAST, tiny_model, few_tunes, tmp_path / "out", log=None)
    assert not run.diverged
    values = json.loads((tmp_path / "out" / "run.json").read_text())
    for name in ("documents", "eval_documents", "diverged_since", "what_to_try"):
        del values[name]
    values["eval_loss_after"] = None
    (tmp_path / "out" / "run.json").write_text(json.dumps(values))
    assert Run.load(tmp_path / "out").diverged


def test_a_finite_loss_above_its_start_is_said_and_no_failure(
    tiny_model, few_tunes, tmp_path, capsys
):
    words = command(tiny_model, few_tunes, tmp_path / "out", learning_rate=0.5)
    assert main(words) == 0
    run = Run.load(tmp_path / "out")
    assert run.eval_loss_after > run.eval_loss_before and run.diverged_since is None
    assert "above where it began" in capsys.readouterr().out


def test_a_failure_while_sampling_costs_no_run(tiny_model, few_tunes, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise IndexError("index out of range in self\nand more")

    # Whatever generate meets: a real failure of it, without a model that fails.
    monkeypatch.setattr("transformers.GenerationMixin.generate", fail)
    lines = []
    run = finetune(FAST, tiny_model, few_tunes, tmp_path / "out", log=lines.append)
    assert run.updates == 12 and run.bars_valid_after is None
    told = [line for line in lines if "sampling failed" in line]
    assert told == ["sampling failed and was left out (IndexError: index out of range in self)"] * 2


@pytest.mark.parametrize("prompt", ["", "K:G\n" + "A" * 58, "K:G\n" + "A" * 62])
def test_prompts_at_both_ends_of_the_context(tmp_path, few_tunes, prompt):
    """GPT-2 has a table of positions, and ends with an error behind the last one."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from hpkit.model import character_tokenizer

    tokenizer = character_tokenizer()
    shape = dict(vocab_size=56, n_positions=64, n_embd=32, n_layer=1, n_head=2)
    ids = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    GPT2LMHeadModel(GPT2Config(**shape, **ids)).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    rows = [{"prompt": "K:G\n", "completion": letter * 2} for letter in "ABCDEFGabcdefg"]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    held_out = tmp_path / "held.jsonl"
    held_out.write_text("\n".join(map(json.dumps, [rows[0] | {"prompt": prompt}, rows[1]])))
    lines = []
    finetune(
        FAST.replace(max_seq_length=64, max_steps=1),
        str(tmp_path / "gpt2"),
        str(file),
        tmp_path / "out",
        log=lines.append,
        eval_corpus=str(held_out),
    )
    assert not any("sampling failed" in line for line in lines)
    # A prompt as long as the context leaves no room for an answer: it is passed over.
    answers = (tmp_path / "out" / "after.txt").read_text().count("[")
    assert answers == (2 if len(prompt) < 64 else 1)
