"""Runs that train an adapter: what they leave, against peft and transformers by themselves."""

import dataclasses
import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig

from hpkit.adapters import target_names, trained_weights, with_adapter
from hpkit.capability import MACHINES, decide
from hpkit.errors import BadInput
from hpkit.finetune import Run, dry_run, finetune, trained
from hpkit.finetune.checkpoints import read_started
from hpkit.model import load_model
from hpkit.recipe import LORA, STARTER
from hpkit.sampling import sample

from .conftest import SMALL, refused, same, weights
from .tiny_architectures import tiny_config

pytestmark = pytest.mark.slow

# Of 64 x 64 weights the two matrices have 64 x 64 numbers each: 8 bits are kept of them.
ADAPTED = SMALL.replace(lora_r=64, lora_alpha=32, learning_rate=1e-2)
IN_4_BITS = ADAPTED.replace(load_in_4bit=True, bnb_4bit_compute_dtype="bfloat16")


@pytest.fixture(scope="module")
def merged_run(tiny_model, few_tunes, tmp_path_factory):
    """Make (folder, Run, lines) of a run with an adapter, merged in the end."""

    def run(recipe):
        out = tmp_path_factory.mktemp("merged") / "run"
        lines = []
        run = finetune(recipe, tiny_model, few_tunes, out, log=lines.append, merge=True)
        return out, run, lines

    return run


@pytest.fixture(scope="module")
def adapted(merged_run):
    return merged_run(ADAPTED)


def plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_cache=False).eval()


def logits(model):
    with torch.no_grad():
        return model(torch.arange(4, 36)[None]).logits


def test_what_a_run_with_an_adapter_leaves(adapted, tiny_model):
    out, run, lines = adapted
    assert run.eval_loss_after < run.eval_loss_before
    names = {file.name for file in (out / "model").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= names
    assert "model.safetensors" not in names and not any(name.endswith(".bin") for name in names)
    saved = load_file(out / "model" / "adapter_model.safetensors")
    # Seven linear layers in each of two blocks, two matrices each.
    assert len(saved) == 2 * 7 * 2 and all("lora_" in name for name in saved)
    assert run.trained_parameters == sum(weight.numel() for weight in saved.values())
    assert run.adapter_bytes == sum(weight.nbytes for weight in saved.values())
    base = sum(weight.numel() for weight in plain(tiny_model).parameters())
    assert run.parameters == base + run.trained_parameters
    assert run.optimizer_state_dtypes["uint8"]["bytes"] == 2 * run.trained_parameters
    (line,) = [line for line in lines if line.startswith("adapter:")]
    share = run.trained_parameters / run.parameters
    assert f"{run.trained_parameters:,} parameters, {share:.1%} of all" in line
    (states,) = [line for line in lines if line.startswith("optimizer state")]
    held, predicted = states.split(";")
    assert held.split()[2] == predicted.split()[0]
    assert Run.load(out) == run


def test_plain_peft_loads_the_adapter_and_plain_transformers_the_merged_model(adapted, tiny_model):
    out = adapted[0]
    beside = PeftModel.from_pretrained(plain(tiny_model), out / "model")
    merged = plain(out / "merged")
    assert type(merged).__name__ == "LlamaForCausalLM"
    torch.testing.assert_close(logits(merged), logits(beside), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(merged), logits(plain(tiny_model)), atol=0.1)
    config = json.loads((out / "model" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (64, 32, False)


def test_what_is_frozen_stays_and_the_adapter_begins_with_nothing(tiny_model, few_tunes):
    before = plain(tiny_model)
    trainer = trained(ADAPTED.replace(max_steps=3), tiny_model, few_tunes)
    inside = trainer.model.get_base_model()
    frozen = {
        name.replace(".base_layer", ""): weight.cpu()
        for name, weight in inside.named_parameters()
        if "lora_" not in name
    }
    assert same(frozen, dict(before.named_parameters()))
    assert all(weight.dtype == torch.float32 for weight in trained_weights(trainer.model))
    torch.testing.assert_close(logits(with_adapter(plain(tiny_model), ADAPTED)), logits(before))


def test_scale_and_dropout_are_pefts(tiny_model, few_tunes):
    recipe = ADAPTED.replace(max_steps=1, lora_r=16, use_rslora=True, lora_dropout=0.25)
    model = trained(recipe, tiny_model, few_tunes).model
    layer = model.get_base_model().model.layers[0].mlp.up_proj
    assert layer.scaling["default"] == 32 / 4 and layer.lora_dropout["default"].p == 0.25


def test_bf16_weights_get_an_adapter_in_fp32(tiny_model, few_tunes):
    model = trained(ADAPTED.replace(max_steps=1, dtype="bfloat16"), tiny_model, few_tunes).model
    assert {weight.dtype for weight in trained_weights(model)} == {torch.float32}
    assert model.get_base_model().model.embed_tokens.weight.dtype == torch.bfloat16


def test_a_kill_after_the_last_update_loses_nothing(adapted, tiny_model, few_tunes, tmp_path):
    out = tmp_path / "again"
    finetune(ADAPTED, tiny_model, few_tunes, out, log=None)
    whole = weights(out)
    (out / "run.json").unlink()
    run = finetune(ADAPTED, tiny_model, few_tunes, out, resume=True, log=None)
    assert run.resumed_from == 12 and same(weights(out), whole)
    assert run.eval_loss_after == pytest.approx(adapted[1].eval_loss_after, abs=1e-6)


def test_samples_keep_their_cache(adapted, tiny_model, monkeypatch):
    """With an adapter transformers' own cache, which is slower, must not take its place."""
    out = adapted[0]
    model, tokenizer = load_model(str(out / "merged"))
    beside = PeftModel.from_pretrained(plain(tiny_model), out / "model")
    caches = []
    for one in (model, beside):
        generate = one.generate

        def noting(*prompts, generate=generate, **settings):
            caches.append(settings.get("past_key_values"))
            return generate(*prompts, **settings)

        monkeypatch.setattr(one, "generate", noting)
    assert sample(beside, tokenizer, 2, 20, seed=1) == sample(model, tokenizer, 2, 20, seed=1)
    beside_cache, merged_cache = ([type(layer).__name__ for layer in c.layers] for c in caches)
    assert beside_cache == merged_cache == ["RoomyLayer"] * 2


# 4 bits.


@pytest.fixture(scope="module")
def in_4_bits(merged_run):
    return merged_run(IN_4_BITS)


def test_a_run_beside_4_bit_weights(in_4_bits, adapted, tiny_model):
    out, run, lines = in_4_bits
    assert run.eval_loss_after < run.eval_loss_before
    # It begins near the model in full, and ends near the run beside that.
    assert run.eval_loss_before == pytest.approx(adapted[1].eval_loss_before, abs=0.05)
    assert run.eval_loss_after == pytest.approx(adapted[1].eval_loss_after, abs=0.05)
    assert (run.parameters, run.trained_parameters) == (
        adapted[1].parameters,
        adapted[1].trained_parameters,
    )
    text = "\n".join(lines)
    assert "products of 4-bit weights: bfloat16 -> bfloat16" in text and "NF4" in text
    assert "its loss may be another" in text
    # Merged are the weights in full.
    beside = PeftModel.from_pretrained(plain(tiny_model), out / "model")
    merged = plain(out / "merged")
    assert "quantization_config" not in merged.config.to_dict()
    torch.testing.assert_close(logits(merged), logits(beside), rtol=1e-4, atol=1e-5)


def test_gradients_pass_through_4_bit_layers_after_an_evaluation(tiny_model, few_tunes):
    """bitsandbytes packs the weights anew in the first evaluation on a CPU with AVX512-BF16."""
    from bitsandbytes.nn import Linear4bit

    # The first update has a rate of 0, after which half of the gradients are 0 by right.
    model = trained(IN_4_BITS.replace(max_steps=3), tiny_model, few_tunes).model
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 14 and layers[0].weight.dtype == torch.uint8
    tokens = torch.arange(4, 36, device=model.device)[None]

    def gradients():
        model.train()
        model.zero_grad()
        with torch.autocast(model.device.type, torch.bfloat16):
            model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        return {n: w.grad.clone() for n, w in model.named_parameters() if w.requires_grad}

    before = gradients()
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16):
        model.eval()(input_ids=tokens, use_cache=False)
    after = gradients()
    assert same(before, after)
    of_the_first = [gradient for name, gradient in after.items() if "layers.0." in name]
    assert all(gradient.abs().max() > 0 for gradient in of_the_first)


# What is asked for, and cannot be.


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("all-linear", "all-linear"),
        ("attention", ["q_proj", "k_proj", "v_proj", "o_proj"]),
        ("mlp", ["gate_proj", "up_proj", "down_proj"]),
        ("q_proj, v_proj", ["q_proj", "v_proj"]),
    ],
)
def test_target_modules(wanted, names, tiny_model):
    model, _ = load_model(tiny_model)
    found = target_names(model, wanted)
    if isinstance(names, list):
        found = [name.rpartition(".")[2] for name in found]
        assert sorted(found) == sorted(names)
    else:
        assert found == names


@pytest.mark.parametrize(
    ("config", "attention", "mlp"),
    [
        (GPT2Config(n_layer=2, n_embd=8, n_head=2), {"attn.c_attn", "attn.c_proj"}, 2),
        (
            GPTNeoXConfig(
                hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
            ),
            {"attention.query_key_value", "attention.dense"},
            2,
        ),
    ],
)
def test_attention_and_mlp_by_the_names_of_other_families(config, attention, mlp):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert set(target_names(model, "attention")) == attention
    others = target_names(model, "mlp")
    assert len(others) == mlp and not attention & set(others)


@pytest.mark.parametrize("model_type", ["mamba", "ctrl"])
def test_what_peft_refuses_is_one_line(model_type):
    """A layer that takes no adapter; two layers of one name of which one is no matrix."""
    model = AutoModelForCausalLM.from_config(tiny_config(model_type))
    asked = ADAPTED.replace(target_modules="mlp")
    with pytest.raises(BadInput, match="peft puts no adapter there .*give the names of") as caught:
        with_adapter(model, asked)
    assert "\n" not in str(caught.value)


def test_a_layer_that_there_is_not_is_named(tiny_model, few_tunes, tmp_path):
    asked = ADAPTED.replace(target_modules="q_proj,up_prj")
    refused("no layer of this model is called 'up_prj'.*up_proj", asked, tiny_model, few_tunes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(num_hidden_layers=1))
    with pytest.raises(BadInput, match="it has q_proj, k_proj, v_proj, o_proj, gate_proj"):
        target_names(model, "query")
    assert not list(tmp_path.iterdir())


def test_what_needs_an_adapter_or_bitsandbytes_is_refused(tiny_model, few_tunes, tmp_path):
    out = tmp_path / "out"
    refused("load_in_4bit.*without lora_r", SMALL.replace(load_in_4bit=True), tiny_model, out=out)
    refused("merge.*without lora_r", SMALL, tiny_model, few_tunes, out=out, merge=True)
    refused("weights of fresh are random", IN_4_BITS, "fresh", few_tunes, out=out)
    assert not out.exists()
    nothing_there = dataclasses.replace(MACHINES["cpu"], eight_bit=False)
    with pytest.raises(BadInput, match="pip install bitsandbytes"):
        decide(IN_4_BITS, nothing_there)


def test_4_bit_weights_by_machine():
    on_t4 = decide(IN_4_BITS, MACHINES["t4"])
    assert (on_t4.compute_dtype, on_t4.fp16) == ("float16", True)
    assert decide(IN_4_BITS, MACHINES["a100"]).compute_dtype == "bfloat16"
    on_mac = decide(IN_4_BITS.replace(optim="adamw_torch"), MACHINES["mps"])
    assert (on_mac.device, on_mac.compute_dtype) == ("cpu", "bfloat16")
    assert decide(ADAPTED, MACHINES["t4"]).compute_dtype is None


def test_resuming_asks_for_the_same_merge(tiny_model, few_tunes, tmp_path):
    out = tmp_path / "run"
    finetune(ADAPTED, tiny_model, few_tunes, out, log=None, merge=True)
    (out / "run.json").unlink()
    assert read_started(out).request.merge
    refused("another merge", ADAPTED, tiny_model, few_tunes, out, resume=True)


def test_a_dry_run_foretells_a_run_with_an_adapter(adapted, tiny_model, few_tunes, tmp_path):
    out, run, _ = adapted
    said = dry_run(ADAPTED, tiny_model, few_tunes, tmp_path / "dry", log=None, merge=True)
    assert said.optimizer_state_bytes == run.optimizer_state_bytes
    files = sum(
        file.stat().st_size
        for folder in ("model", "merged")
        for file in (out / folder).glob("*.safetensors")
    )
    assert said.disk.model == pytest.approx(files, rel=0.05)
    checkpoint = out / "checkpoint-12"
    states = (checkpoint / "optimizer.pt").stat().st_size
    states += (checkpoint / "adapter_model.safetensors").stat().st_size
    assert said.disk.checkpoint == pytest.approx(states, rel=0.1)


def test_the_rate_of_an_adapter(capsys, tiny_model, few_tunes, tmp_path):
    from hpkit.__main__ import main

    few = "--max_steps 1 --eval_strategy no --save_strategy no --max_seq_length 32".split()
    command = ["finetune", "--model", tiny_model, "--corpus", few_tunes, *few]
    assert main([*command, "--lora_r", "4", "--out", str(tmp_path / "one")]) == 0
    assert "learning_rate: 3.0e-3" in capsys.readouterr().out
    recipe = Run.load(tmp_path / "one").recipe
    assert (recipe.learning_rate, recipe.lora_r, recipe.lora_alpha) == (LORA.learning_rate, 4, 32)
    rate = ["--learning_rate", "1e-4", "--lora_r", "4"]
    assert main([*command, *rate, "--out", str(tmp_path / "two")]) == 0
    assert "learning_rate: 3.0e-3" not in capsys.readouterr().out
    assert Run.load(tmp_path / "two").recipe.learning_rate == 1e-4
    assert STARTER.learning_rate < LORA.learning_rate
