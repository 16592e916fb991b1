"""Faults around an adapter, as people write them with peft, TRL and Unsloth, and near misses."""

import pytest

from hpkit.check import check_file

from .examples import write

ALONE = dict(model=None, device=None, processes=1, lengths=None)
HEAD = """\
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from peft import prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers import Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer
"""
BASE = 'model = AutoModelForCausalLM.from_pretrained("o/m")\n'
TOKENIZER = 'tok = AutoTokenizer.from_pretrained("o/m")\n'
FOUR = """\
four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
model = AutoModelForCausalLM.from_pretrained("o/m", quantization_config=four)
model = prepare_model_for_kbit_training(model)
"""
LORA = 'model = get_peft_model(model, LoraConfig(r=16, target_modules=["q_proj", "v_proj"]))\n'
TRAINER = """\
trainer = Trainer(model=model, args=TrainingArguments("o", learning_rate=2e-4), train_dataset=rows)
trainer.train()
"""
SFT = """\
trainer = SFTTrainer(model=model, args=SFTConfig("o", learning_rate=2e-4), train_dataset=rows)
trainer.train()
"""
WITH_CONFIG = """\
lora = LoraConfig(r=16, target_modules="all-linear")
args = SFTConfig("o", learning_rate=2e-4)
trainer = SFTTrainer(model, args=args, train_dataset=rows, peft_config=lora)
trainer.train()
"""
UNSLOTH = """\
from unsloth import FastLanguageModel
from trl import SFTConfig, SFTTrainer
model, tok = FastLanguageModel.from_pretrained("o/m", load_in_4bit=True)
"""
UNSLOTH_LORA = 'model = FastLanguageModel.get_peft_model(model, r=16, target_modules=["q_proj"])\n'

ADAPTER_RULES = {
    "adapter-frozen",
    "adapter-rank",
    "adapter-scale",
    "new-tokens-frozen",
    "target-modules-missed",
}


@pytest.fixture
def found(tmp_path):
    """`found(text)`: the findings of a file, by rule."""

    def of(text: str, name: str = "train.py", **known) -> dict:
        report = check_file(str(write(tmp_path, text, name)), None, **ALONE | known)
        return {finding["rule"]: finding for finding in report.findings}

    return of


# An adapter that was loaded to be read.

LOADED = 'model = PeftModel.from_pretrained(model, "o/adapter")\n'


@pytest.mark.parametrize(
    "body",
    [
        HEAD + BASE + LOADED + TRAINER,
        HEAD + BASE + LOADED + "model.print_trainable_parameters()\n" + SFT,
        HEAD + BASE + LOADED.replace(")", ", is_trainable=False)") + TRAINER,
        HEAD + BASE + LOADED + 'model = model.to("cuda")\nmodel.train()\n' + TRAINER,
        HEAD + 'model = AutoPeftModelForCausalLM.from_pretrained("o/adapter")\n' + SFT,
        "from peft import PeftModel\n" + UNSLOTH + LOADED + SFT,
    ],
)
def test_a_loaded_adapter_is_frozen(body, found):
    finding = found(body)["adapter-frozen"]
    assert finding["severity"] == "error"
    mended = body.replace(", is_trainable=False", "")
    mended = mended.replace('"o/adapter"', '"o/adapter", is_trainable=True')
    assert "adapter-frozen" not in found(mended)


@pytest.mark.parametrize(
    "body",
    [
        # Evaluated, merged, or merged before another one is put on.
        HEAD + BASE + LOADED + TRAINER.replace("train()", "evaluate()"),
        HEAD + BASE + LOADED + "model = model.merge_and_unload()\n" + LORA + TRAINER,
        HEAD + BASE + LOADED + "model = model.merge_and_unload()\n" + WITH_CONFIG,
        HEAD + BASE + LORA + TRAINER + "model = PeftModel.from_pretrained(base, 'o')\n",
        # The file sees to it by itself.
        HEAD + BASE + LOADED + "for p in model.parameters(): p.requires_grad = True\n" + TRAINER,
        HEAD + BASE + LOADED + "model.set_adapter('default')\n" + TRAINER,
        HEAD + BASE + LOADED + "model.enable_adapter_layers()\n" + TRAINER,
        HEAD + BASE + LOADED.replace(")", ", 'default', True)") + TRAINER,
        HEAD + BASE + LOADED.replace(")", ", is_trainable=resume)") + TRAINER,
        HEAD + BASE + LOADED.replace(")", ", **settings)") + TRAINER,
        # TRL put another adapter on, after merging, or refuses the model.
        HEAD + BASE + LOADED + WITH_CONFIG,
        # Which of the two is trained nobody can tell.
        HEAD + BASE + "if resume:\n    " + LOADED + "else:\n    " + LORA + TRAINER,
        # Unsloth loads an adapter by its own name, and trains it.
        UNSLOTH + SFT,
    ],
)
def test_an_adapter_that_can_be_trained(body, found):
    assert "adapter-frozen" not in found(body)


def test_a_reference_is_not_trained(found):
    body = HEAD.replace("SFT", "DPO") + BASE + LORA
    body += 'other = PeftModel.from_pretrained(base, "o/adapter")\n'
    body += "trainer = DPOTrainer(model, ref_model=other, args=DPOConfig('o'))\ntrainer.train()\n"
    assert "adapter-frozen" not in found(body)


# Tokens whose rows nobody trains.

ADDED = 'tok.add_tokens(["<tool>", "</tool>"])\nmodel.resize_token_embeddings(len(tok))\n'
NEW_ROWS = '{"additional_special_tokens": ["<|user|>", "<|bot|>"]}'


@pytest.mark.parametrize(
    "body",
    [
        HEAD + TOKENIZER + BASE + ADDED + LORA + TRAINER,
        HEAD + TOKENIZER + BASE + ADDED + WITH_CONFIG,
        HEAD + TOKENIZER + BASE + f"tok.add_special_tokens({NEW_ROWS})\n" + LORA + TRAINER,
        HEAD + TOKENIZER + BASE + f"new = {NEW_ROWS}\ntok.add_special_tokens(new)\n" + WITH_CONFIG,
        UNSLOTH + ADDED + UNSLOTH_LORA + SFT,
        UNSLOTH
        + "from unsloth import add_new_tokens\nadd_new_tokens(model, tok, new_tokens=['<tool>'])\n"
        + UNSLOTH_LORA
        + SFT,
    ],
)
def test_new_rows_stay_as_they_were_drawn(body, found):
    assert found(body)["new-tokens-frozen"]["severity"] == "warning"
    for given in ('modules_to_save=["embed_tokens"]', "trainable_token_indices=numbers"):
        mended = body.replace("r=16", f"r=16, {given}")
        assert "new-tokens-frozen" not in found(mended)


@pytest.mark.parametrize(
    "body",
    [
        # Trained whole, without an adapter.
        HEAD + TOKENIZER + BASE + ADDED + TRAINER,
        # Padding is left out of the loss, and these tokens are in most vocabularies.
        HEAD + TOKENIZER + BASE + "tok.pad_token = tok.eos_token\n" + LORA + TRAINER,
        HEAD
        + TOKENIZER
        + BASE
        + 'tok.add_special_tokens({"pad_token": "[PAD]", "eos_token": "</s>"})\n'
        + LORA
        + TRAINER,
        HEAD + TOKENIZER + BASE + 'tok.add_tokens(["<|im_start|>"])\n' + LORA + TRAINER,
        # The adapter has the embedding, or may have it.
        HEAD + TOKENIZER + BASE + ADDED + LORA.replace('"v_proj"', '"embed_tokens"') + TRAINER,
        HEAD + TOKENIZER + BASE + ADDED + LORA.replace('["q_proj", "v_proj"]', "names") + TRAINER,
        HEAD + TOKENIZER + BASE + ADDED + LORA.replace("r=16", "**settings") + TRAINER,
        HEAD + TOKENIZER + BASE + ADDED + LORA + "embedding.requires_grad_(True)\n" + TRAINER,
        UNSLOTH + ADDED + UNSLOTH_LORA.replace('"q_proj"', '"q_proj", "lm_head"') + SFT,
    ],
)
def test_new_rows_that_are_trained_or_need_not_be(body, found):
    assert "new-tokens-frozen" not in found(body)


AXOLOTL = """\
base_model: o/m
datasets: [{path: o/d, type: alpaca}]
micro_batch_size: 2
num_epochs: 1
learning_rate: 2e-4
adapter: lora
lora_r: 16
lora_alpha: 32
"""


@pytest.mark.parametrize(
    "line, severity",
    [
        ("tokens: ['<tool>', '</tool>']", "error"),
        ("special_tokens: {additional_special_tokens: ['<tool>']}", "warning"),
        ("special_tokens:\n  pad_token: '<|end_of_text|>'", None),
        ("special_tokens: {additional_special_tokens: ['<|im_start|>', '<|im_end|>']}", None),
        ("tokens: []", None),
    ],
)
def test_new_tokens_of_axolotl(line, severity, found):
    fired = found(AXOLOTL + line, "a.yaml").get("new-tokens-frozen")
    assert (fired and fired["severity"]) == severity
    mended = AXOLOTL + line + "\nlora_modules_to_save: [embed_tokens, lm_head]"
    assert "new-tokens-frozen" not in found(mended, "a.yaml")
    full = (AXOLOTL + line).replace("adapter: lora\n", "")
    assert "new-tokens-frozen" not in found(full, "a.yaml")


# Merging into few bits.

MERGED = "model = model.merge_and_unload()\n"


@pytest.mark.parametrize(
    "body",
    [
        HEAD + FOUR + LORA + TRAINER + MERGED,
        HEAD + FOUR + WITH_CONFIG + "merged = trainer.model.merge_and_unload()\n",
        HEAD + FOUR + LORA + TRAINER + "model.merge_adapter()\n",
        HEAD
        + FOUR
        + LORA
        + TRAINER
        + 'loaded = AutoPeftModelForCausalLM.from_pretrained("o", load_in_8bit=True)\n'
        + "loaded = loaded.merge_and_unload()\n",
        UNSLOTH + UNSLOTH_LORA + SFT + MERGED,
    ],
)
def test_an_adapter_merged_into_few_bits(body, found):
    finding = found(body)["merged-into-bits"]
    assert finding["severity"] == "warning"
    assert finding["line"] == body.count("\n")


@pytest.mark.parametrize(
    "body",
    [
        HEAD + BASE + LORA + TRAINER + MERGED,
        # Loaded again in full, with the adapter on it.
        HEAD
        + FOUR
        + LORA
        + TRAINER
        + 'model = AutoPeftModelForCausalLM.from_pretrained("o", dtype=torch.bfloat16)\n'
        + MERGED,
        HEAD
        + FOUR
        + LORA
        + TRAINER
        + 'base = AutoModelForCausalLM.from_pretrained("o/m", dtype=torch.bfloat16)\n'
        + 'model = PeftModel.from_pretrained(base, "o")\n'
        + MERGED,
        HEAD + FOUR.replace("=True", "=bits == 4") + LORA + TRAINER + MERGED,
        # Unsloth merges in 16 bits by a method of its own.
        UNSLOTH + UNSLOTH_LORA + SFT + 'model.save_pretrained_merged("o", tok)\n',
        UNSLOTH.replace("4bit=True", "4bit=False") + UNSLOTH_LORA + SFT + MERGED,
    ],
)
def test_an_adapter_merged_into_a_whole_model(body, found):
    assert "merged-into-bits" not in found(body)


# Numbers of an adapter.


@pytest.mark.parametrize(
    "numbers, rule",
    [
        ("r=8, lora_alpha=512", "adapter-scale"),
        ("r=64, lora_alpha=1024, use_rslora=True", "adapter-scale"),
        ("r=16, lora_alpha=128, use_rslora=True", "adapter-scale"),
        ("r=0", "adapter-rank"),
        ("r=-8, lora_alpha=16", "adapter-rank"),
        # Schulman's advice, QLoRA's recipe, and what Unsloth's notebooks have.
        ("r=512, lora_alpha=32", None),
        ("r=64, lora_alpha=16", None),
        ("r=16, lora_alpha=16", None),
        ("r=64, lora_alpha=128, use_rslora=True", None),
        ("r=256, lora_alpha=256, use_rslora=True", None),
        ("r=128, lora_alpha=32, use_rslora=True", None),
        ("r=16, lora_alpha=128, use_rslora=rooted", None),
        ("r=rank, lora_alpha=1024", None),
    ],
)
def test_numbers_of_an_adapter(numbers, rule, found):
    for body in (
        HEAD + BASE + LORA.replace("r=16", numbers) + TRAINER,
        HEAD + BASE + WITH_CONFIG.replace("r=16", numbers),
        UNSLOTH + UNSLOTH_LORA.replace("r=16", numbers) + SFT,
    ):
        fired = {"adapter-scale", "adapter-rank"} & set(found(body))
        assert fired == ({rule} if rule else set())


@pytest.mark.parametrize(
    "lines, rule",
    [
        ("lora_r: 0\nlora_alpha: 16", "adapter-rank"),
        ("lora_r: 16\nlora_alpha: 256\npeft_use_rslora: true", "adapter-scale"),
        ("lora_r: 16\nlora_alpha: 64\npeft_use_rslora: true", None),
        ("lora_r: 512\nlora_alpha: 32", None),
    ],
)
def test_numbers_of_an_adapter_in_a_recipe(lines, rule, found):
    text = AXOLOTL.replace("lora_r: 16\nlora_alpha: 32", lines)
    fired = {"adapter-scale", "adapter-rank"} & set(found(text, "a.yaml"))
    assert fired == ({rule} if rule else set())


def test_the_scale_is_said_as_it_is_computed(found):
    body = HEAD + BASE + LORA.replace("r=16", "r=16, lora_alpha=128, use_rslora=True") + TRAINER
    finding = found(body)["adapter-scale"]
    assert finding["message"].startswith("lora_alpha / sqrt(r) is 32: ")


# The layers that it is put on.


@pytest.mark.parametrize(
    "targets, severity",
    [
        ('["q_proj", "v_proj", "query_key_value"]', "warning"),
        ('["query_key_value"]', "error"),
        ('"q_proj"', "error"),
        ('["q_proj", "lm_head"]', None),
        ('"all-linear"', None),
        ("names", None),
    ],
)
def test_layers_that_the_model_lacks(targets, severity, found):
    for body in (
        HEAD + BASE + LORA.replace('["q_proj", "v_proj"]', targets) + TRAINER,
        HEAD + BASE + WITH_CONFIG.replace('"all-linear"', targets),
        UNSLOTH + UNSLOTH_LORA.replace('["q_proj"]', targets) + SFT,
    ):
        fired = found(body, model="starter").get("target-modules-missed")
        assert (fired and fired["severity"]) == severity
        assert "target-modules-missed" not in found(body)


@pytest.mark.parametrize(
    "line, severity",
    [
        ("lora_target_modules: [q_proj, c_attn]", "warning"),
        ("lora_target_modules: [q_proj, v_proj]", None),
        ("lora_target_linear: true", None),
    ],
)
def test_layers_of_a_recipe_that_the_model_lacks(line, severity, found):
    fired = found(AXOLOTL + line, "a.yaml", model="starter").get("target-modules-missed")
    assert (fired and fired["severity"]) == severity


FACTORY = """\
model_name_or_path: o/m
stage: sft
finetuning_type: lora
dataset: d
cutoff_len: 512
learning_rate: 1.0e-4
output_dir: o
"""


@pytest.mark.parametrize(
    "lines, rules",
    [
        ("lora_target: q_proj,c_attn", {"target-modules-missed"}),
        ("lora_target: q_proj, v_proj", set()),
        ("lora_target: q_proj", set()),
        ("lora_target: all", set()),
        ("lora_rank: 0", {"adapter-rank"}),
        ("lora_rank: 16\nlora_alpha: 256\nuse_rslora: true", {"adapter-scale"}),
        # It trains the embedding by itself where it adds tokens.
        ("add_tokens: <tool>,</tool>\nlora_rank: 16", set()),
    ],
)
def test_recipes_of_llama_factory(lines, rules, found):
    assert set(found(FACTORY + lines, "a.yaml", model="starter")) & ADAPTER_RULES == rules


TRL = """\
model_name_or_path: o/m
dataset_name: o/d
learning_rate: 1.0e-4
per_device_train_batch_size: 2
output_dir: o
"""


@pytest.mark.parametrize(
    "lines, rules",
    [
        ("use_peft: true\nlora_target_modules: [q_proj, c_attn]", {"target-modules-missed"}),
        ("use_peft: true\nlora_target_modules: all-linear", set()),
        ("use_peft: true\nlora_r: 0", {"adapter-rank"}),
        ("use_peft: false\nlora_r: 0\nlora_target_modules: [c_attn]", set()),
        ("use_peft: true\nlora_r: 16\nlora_alpha: 256\nuse_rslora: true", {"adapter-scale"}),
    ],
)
def test_recipes_of_trl(lines, rules, found):
    assert set(found(TRL + lines, "a.yaml", model="starter")) & ADAPTER_RULES == rules


# A rate that nobody wrote down.


@pytest.mark.parametrize(
    "body, fires",
    [
        (LORA + TRAINER.replace("learning_rate=2e-4", "num_train_epochs=3"), True),
        (LORA + SFT.replace("learning_rate=2e-4", "per_device_train_batch_size=4"), True),
        (WITH_CONFIG.replace("learning_rate=2e-4", "max_steps=500"), True),
        # Written, taken from elsewhere, a trial, an evaluation, an optimizer with its own rate.
        (LORA + TRAINER.replace("learning_rate=2e-4", "max_steps=500, learning_rate=5e-5"), False),
        (LORA + TRAINER.replace("learning_rate=2e-4", "max_steps=500, learning_rate=rate"), False),
        (LORA + TRAINER.replace("learning_rate=2e-4", "max_steps=500, **settings"), False),
        (LORA + TRAINER.replace("learning_rate=2e-4", "max_steps=3"), False),
        (LORA + TRAINER.replace("learning_rate=2e-4", "per_device_eval_batch_size=4"), False),
        (LORA + TRAINER.replace("learning_rate=2e-4", "max_steps=500, optim='lion_32bit'"), False),
        (TRAINER.replace("learning_rate=2e-4", "num_train_epochs=3"), False),
    ],
)
def test_the_default_rate_of_a_full_fine_tune(body, fires, found):
    fired = found(HEAD + BASE + body)
    assert ("adapter-default-rate" in fired) == fires


@pytest.mark.parametrize(
    "config, fires",
    [
        ("LoraConfig(r=16)", True),
        ("peft.LoHaConfig(r=16)", True),
        ("peft.AdaLoraConfig(total_step=9)", True),
        ("peft.PrefixTuningConfig(num_virtual_tokens=9)", False),
        ("peft.PromptTuningConfig(num_virtual_tokens=9)", False),
        ("peft.PromptEncoderConfig(num_virtual_tokens=9)", False),
        ("peft.MultitaskPromptTuningConfig(num_virtual_tokens=9)", False),
        ("peft.IA3Config()", False),
        ("peft.IA3Config() if small else LoraConfig(r=16)", True),
    ],
)
def test_the_default_rate_is_asked_about_for_lora_and_its_like(config, fires, found):
    body = f"import peft\nmodel = get_peft_model(model, {config})\n"
    body += TRAINER.replace("learning_rate=2e-4", "num_train_epochs=3")
    assert ("adapter-default-rate" in found(HEAD + BASE + body)) == fires


# An adapter in float16.

HALF_TRAINER = TRAINER.replace("learning_rate", "fp16=True, learning_rate")
HALF_BASE = 'model = AutoModelForCausalLM.from_pretrained("o/m", dtype=torch.float16)\n'
KEPT = LORA.replace("]))", "]), autocast_adapter_dtype=False)")


@pytest.mark.parametrize(
    "body, fires",
    [
        (BASE + LORA + "model.half()\n" + HALF_TRAINER, True),
        (BASE + LORA + "model = model.to(torch.float16)\n" + HALF_TRAINER, True),
        (BASE + LORA + "model.to(dtype=torch.half)\n" + HALF_TRAINER, True),
        (HALF_BASE + KEPT + HALF_TRAINER, True),
        (HALF_BASE + KEPT + HALF_TRAINER.replace("fp16", "bf16"), False),
        # Cast before the adapter, after the training, or another format.
        (HALF_BASE + LORA + HALF_TRAINER, False),
        (BASE + "model.half()\n" + LORA + HALF_TRAINER, False),
        (BASE + LORA + HALF_TRAINER + "model.half()\n", False),
        (BASE + LORA + "model.to(torch.bfloat16)\n" + HALF_TRAINER, False),
        (BASE + LORA + 'model.to("cuda")\n' + HALF_TRAINER, False),
        (BASE + KEPT + HALF_TRAINER, False),
        (FOUR + KEPT + HALF_TRAINER, False),
        (BASE + LORA + "other.half()\n" + HALF_TRAINER, False),
    ],
)
def test_an_adapter_in_float16(body, fires, found):
    assert ("fp16-adapter-unscaled" in found(HEAD + body)) == fires


def test_unsloth_keeps_adapters_in_float32(found):
    body = (
        UNSLOTH + UNSLOTH_LORA + "model.half()\n" + SFT.replace("learning", "fp16=True, learning")
    )
    assert "fp16-adapter-unscaled" not in found(body)
