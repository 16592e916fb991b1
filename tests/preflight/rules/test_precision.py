"""Rules about number formats, against torch's own rounding and against real trainings."""

import pytest
import torch
import transformers
from transformers import TrainingArguments

from hpkit.preflight import Surroundings, Written
from hpkit.preflight.rules.precision import unmoved_share
from hpkit.recipe import Recipe

from ..support import Case, Rows, found, llama, train

#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "bf16-weights-without-masters": Case(
        about=Recipe(dtype="bfloat16", bf16=True),
        silent=Recipe(bf16=True),
    ),
    "halves-swapped": Case(
        about=dict(),
        known=dict(written=Written(around=Surroundings(halves_swapped=True))),
        silent=dict(),
        by_hand=True,
    ),
    "fp16-weights-unscaled": Case(
        about=dict(fp16=True),
        known=dict(written=Written(around=Surroundings(weights="float16"))),
        silent=dict(fp16=True),
        known_of_silent=dict(
            written=Written(around=Surroundings(weights="float16", adapter="LoraConfig"))
        ),
        by_hand=True,
    ),
    "bf16-emulated": Case(
        about=dict(bf16=True),
        known=dict(device="t4"),
        silent=dict(bf16=True),
        known_of_silent=dict(device="h100"),
    ),
    "bf16-without-use-cpu": Case(
        about=dict(bf16=True),
        known=dict(device="cpu"),
        silent=dict(bf16=True, use_cpu=True),
        known_of_silent=dict(device="cpu"),
    ),
    "fp16-on-cpu": Case(
        about=dict(fp16=True),
        known=dict(device="cpu"),
        silent=dict(fp16=True),
        known_of_silent=dict(device="t4"),
    ),
    "both-halves": Case(
        about=dict(bf16=True, fp16=True),
        silent=dict(bf16=True, fp16=False),
    ),
    "no-half-precision": Case(
        about=dict(learning_rate=1e-4),
        known=dict(device="a100"),
        silent=dict(bf16=False),
        known_of_silent=dict(device="cpu-without-bf16"),
    ),
}


@pytest.mark.slow
def test_the_share_of_bf16_weights_that_do_not_move(tmp_path):
    """Against torch's own rounding, and against one update of a real Trainer."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(1_000_000, generator=generator).mul(0.02).bfloat16()
    for step, said in ((1e-4, 0.12), (2e-5, 0.70), (1e-6, 0.98)):  # FACTS
        unmoved = ((weights - step) == weights).float().mean().item()
        assert unmoved_share(step) == pytest.approx(unmoved, abs=0.005)
        assert unmoved_share(step) == pytest.approx(said, abs=0.01)
    for rate in (3e-4, 2e-5):
        model = llama().bfloat16()
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        run = dict(
            max_steps=1,
            learning_rate=rate,
            bf16=True,
            lr_scheduler_type="constant",
            optim="adamw_torch",
        )
        arguments = TrainingArguments(str(tmp_path), use_cpu=True, **run)
        fired = found(arguments, model=model)["bf16-weights-without-masters"]
        trainer = train(tmp_path, model, Rows(8, 32), **run)
        moved = []
        for name, weight in trainer.model.named_parameters():
            moved.append((weight != before[name]).flatten())
        unmoved = 1 - torch.cat(moved).float().mean().item()
        assert unmoved == pytest.approx(fired.evidence["unmoved_share"], abs=0.05)
        assert fired.severity == ("error" if rate < 1e-4 else "warning")


def test_a_checkpoint_in_bf16_is_known_from_its_config(tmp_path):
    rule = "bf16-weights-without-masters"
    run = dict(learning_rate=2e-5, bf16=True)
    llama().bfloat16().save_pretrained(tmp_path)
    # transformers 5 keeps the format of the file.
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype is torch.bfloat16
    fired = found(run, model=str(tmp_path))[rule]
    assert "leaves 70% of weights" in fired.message and "dtype=torch.float32" in fired.fix
    # hpkit loads it as float32.
    assert rule not in found(Recipe(bf16=True), model=str(tmp_path))
    llama().save_pretrained(tmp_path)
    assert rule not in found(run, model=str(tmp_path))


def test_fp16_on_a_cpu_multiplies_in_fp32(tmp_path):
    seen = set()
    model = llama()
    model.model.layers[0].mlp.up_proj.register_forward_hook(
        lambda module, inputs, output: seen.add(output.dtype)
    )
    train(tmp_path, model, Rows(8), max_steps=1, fp16=True)
    assert seen == {torch.float32}


def test_transformers_refuses_both_halves_and_bf16_without_use_cpu(tmp_path):
    with pytest.raises(ValueError):
        TrainingArguments(str(tmp_path), use_cpu=True, **CASES["both-halves"].about)
    with pytest.raises(ValueError, match="use_cpu"):
        TrainingArguments(str(tmp_path), **CASES["bf16-without-use-cpu"].about)
