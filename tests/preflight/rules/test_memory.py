"""Rules about bytes and tokens, against real optimizers, tokenizers and predictions."""

import dataclasses

import pytest
import torch

from hpkit.capability import MACHINES, decide
from hpkit.check.report import check_file
from hpkit.errors import BadInput
from hpkit.formatting import shown_bytes
from hpkit.measured_memory import optimizer_state_bytes
from hpkit.memory import predict_memory
from hpkit.model import character_tokenizer, read_config
from hpkit.preflight import Written
from hpkit.recipe import LORA, NOTES, STARTER, Recipe

from ..support import Case, Rows, found, llama, mended, train

SFT = Written(name="SFTConfig")
#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "paged-on-cpu": Case(
        about=dict(optim="paged_adamw_8bit"),
        known=dict(device="cpu"),
        silent=dict(optim="paged_adamw_8bit"),
        known_of_silent=dict(device="t4"),
    ),
    "8bit-saves-little": Case(
        about=STARTER,
        known=dict(model="starter"),
        silent=STARTER,
        known_of_silent=dict(model="7B"),
    ),
    "length-beyond-data": Case(
        about=Recipe(max_seq_length=512),
        known=dict(lengths=[90, 110] * 50),
        silent=Recipe(max_seq_length=128),
        known_of_silent=dict(lengths=[90] * 9),
    ),
    "length-cuts-tokens": Case(
        about=dict(max_length=128),
        known=dict(lengths=[100] * 90 + [200] * 10, written=SFT),
        silent=dict(max_length=128),
        known_of_silent=dict(lengths=[100] * 990 + [200] * 10, written=SFT),
    ),
    "memory-over-free": Case(
        about=STARTER,
        known=dict(
            model="starter",
            device=dataclasses.replace(MACHINES["cpu"], memory_free=60 * 10**6),
        ),
        silent=STARTER,
        known_of_silent=dict(model="starter", device="t4"),
    ),
}


@pytest.mark.slow
def test_8_bits_save_what_is_said(tmp_path):
    states = {}
    for optim in ("adamw_8bit", "adamw_torch"):
        trainer = train(tmp_path, llama(), Rows(8), max_steps=1, optim=optim)
        held = optimizer_state_bytes(trainer.optimizer.state)
        states[optim] = sum(entry["bytes"] for entry in held.values())
    fired = found(dict(optim="adamw_8bit"), model=llama())["8bit-saves-little"]
    assert fired.evidence["saved"] == states["adamw_torch"] - states["adamw_8bit"]


def test_nothing_is_paged_on_a_cpu(tmp_path):
    trainer = train(tmp_path, llama(), Rows(8), max_steps=1, optim="paged_adamw_8bit")
    tensors = []
    for state in trainer.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    assert tensors and not any(getattr(tensor, "is_paged", False) for tensor in tensors)


@pytest.mark.slow
def test_the_batch_that_is_said_to_fit_does():
    case = CASES["memory-over-free"]
    fired = found(case.about, **case.known)["memory-over-free"]
    run = mended(STARTER, fired)
    assert predict_memory(read_config("starter"), run).total <= fired.evidence["free"]
    effective_batch = run.per_device_train_batch_size * run.gradient_accumulation_steps
    assert effective_batch >= STARTER.per_device_train_batch_size
    assert "activation_checkpointing" not in fired.fix
    # Where it is asked for already, activations are not held against the device.
    recomputing = dict(activation_checkpointing=True, optim="adamw_8bit")
    assert "memory-over-free" not in found(recomputing, model="7B", device="a100-80gb")
    big = found(dict(optim="adamw_torch"), model="7B", device="t4")["memory-over-free"]
    assert "no batch fits: take optim=adamw_8bit" in big.fix and big.severity == "error"


def test_what_a_length_cuts_and_pads():
    """A tokenizer that truncates and pads, on texts of known lengths."""
    tokenizer = character_tokenizer()
    lengths = [40] * 80 + [90] * 20
    texts = ["A" * length for length in lengths]
    cut = tokenizer(texts, truncation=True, max_length=64, add_special_tokens=False)["input_ids"]
    fired = found(dict(max_length=64), lengths=lengths, written=SFT)["length-cuts-tokens"]
    assert fired.evidence["cut"] == pytest.approx(1 - sum(map(len, cut)) / sum(lengths))
    padded = tokenizer(texts, padding="max_length", max_length=256, add_special_tokens=False)[
        "attention_mask"
    ]
    fired = found(dict(max_length=256), lengths=lengths, written=SFT)["length-beyond-data"]
    assert fired.evidence["padding"] == pytest.approx(
        1 - sum(map(sum, padded)) / (256 * len(texts))
    )


def test_a_length_beyond_the_models_context():
    fired = found(STARTER, lengths=[2000] * 10, model="starter")["length-cuts-tokens"]
    assert "the model's context is 512 tokens and 2000 would be needed" in fired.fix


# Adapters.

ON_A_T4 = dict(model="7B", device="t4")
SCRIPT = """\
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
model = AutoModelForCausalLM.from_pretrained("org/m-7b", {loaded})
trainer = Trainer(
    model=get_peft_model(model, lora),
    args=TrainingArguments(
        "out", bf16=True, per_device_train_batch_size=1, optim="adamw_torch", learning_rate=2e-4
    ),
    train_dataset=rows,
)
"""
BF16 = "dtype=torch.bfloat16"
NF4 = "quantization_config=BitsAndBytesConfig(load_in_4bit=True), dtype=torch.bfloat16"


@pytest.mark.slow
def test_7b_on_a_t4_by_full_lora_and_qlora():
    """What one does not hold, and the others, as the advice says, with the bytes of each."""
    full = NOTES.replace(
        dtype="bfloat16", per_device_train_batch_size=1, max_seq_length=512, fp16=False
    )
    over = found(full, **ON_A_T4)["memory-over-free"]
    lora = predict_memory("7B", full.replace(lora_r=16)).total
    qlora = predict_memory("7B", full.replace(lora_r=16, load_in_4bit=True)).total
    assert over.message.startswith("a full fine-tune needs")
    assert f"LoRA (of rank 16 {shown_bytes(lora)})" in over.fix
    assert f"QLoRA ({shown_bytes(qlora)})" in over.fix
    assert qlora < MACHINES["t4"].memory_free < lora < over.evidence["weights"] * 2

    adapted = full.replace(lora_r=16, learning_rate=1e-3)
    over = found(adapted, **ON_A_T4)["memory-over-free"]
    assert "an adapter of rank 16 needs" in over.message
    assert over.evidence["gradients"] < 0.02 * over.evidence["weights"]
    assert "memory-over-free" not in found(adapted.replace(load_in_4bit=True), **ON_A_T4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loaded", "settings"),
    [(BF16, {}), (NF4, dict(load_in_4bit=True, bnb_4bit_compute_dtype="float32"))],
)
def test_a_script_with_an_adapter_is_counted_as_a_recipe_with_one(loaded, settings, tmp_path):
    file = tmp_path / "tune.py"
    file.write_text("import torch\n" + SCRIPT.format(loaded=loaded))
    small = dataclasses.replace(MACHINES["t4"], memory_free=10**9)
    report = check_file(str(file), None, model="7B", device=small)
    (over,) = [finding for finding in report.findings if finding["rule"] == "memory-over-free"]
    recipe = Recipe(
        per_device_train_batch_size=1, bf16=True, dtype="bfloat16", optim="adamw_torch", lora_r=16
    )
    held = predict_memory("7B", recipe.replace(**settings))
    assert {name: over["evidence"][name] for name in held._fields} == held._asdict()


@pytest.mark.parametrize(
    ("told", "instead"),
    [
        ('target_modules="all-linear"', ""),
        ('"all-linear"', '["no_such_layer"]'),
        ("r=16", "r=-1"),
        (BF16, ""),
        (BF16, NF4.replace("4bit", "8bit")),
    ],
)
def test_of_an_adapter_that_is_not_described_whole_nothing_is_said(told, instead, tmp_path):
    file = tmp_path / "tune.py"
    file.write_text("import torch\n" + SCRIPT.format(loaded=BF16).replace(told, instead))
    small = dataclasses.replace(MACHINES["t4"], memory_free=10**9)
    report = check_file(str(file), None, model="7B", device=small)
    assert "memory-over-free" not in [finding["rule"] for finding in report.findings]
    assert not any("failed" in finding["evidence"] for finding in report.findings)


@pytest.mark.slow
def test_small_adapters_save_nothing_in_8_bits():
    """Up to rank 4 every matrix of the starter's adapter is under 4,096 numbers."""
    recipe = LORA.replace(lora_r=4)
    fired = found(recipe, model="starter")["8bit-saves-little"]
    # Nothing but AdamW's step counters, four bytes a matrix.
    assert fired.evidence["saved"] == 4 * 2 * 7 * 4
    assert "100% of what trains" in fired.message
    assert "what is frozen has no states" in fired.message


def test_4_bits_without_a_rank_are_refused_before_the_run():
    fired = found(STARTER.replace(load_in_4bit=True))["quantized-without-adapter"]
    assert fired.fix == "set lora_r=16, or leave load_in_4bit out"
    with pytest.raises(BadInput, match="without lora_r"):
        decide(STARTER.replace(load_in_4bit=True), MACHINES["cpu"])
    run = mended(STARTER.replace(load_in_4bit=True), fired)
    assert "quantized-without-adapter" not in found(run) and decide(run, MACHINES["cpu"])
