"""Rules about adapters, against peft's own errors and warnings and against trainings."""

import warnings

import pytest
import torch
import transformers

from hpkit.preflight import Surroundings, Written

from ..support import Case, Rows, llama, train

peft = pytest.importorskip("peft")


def around(**facts):
    return dict(written=Written(around=Surroundings(**facts)))


#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "adapter-frozen": Case(
        about=dict(),
        known=around(frozen_adapter="PeftModel.from_pretrained"),
        silent=dict(),
        known_of_silent=around(adapter="PeftModel"),
        by_hand=True,
    ),
    "new-tokens-frozen": Case(
        about=dict(),
        known=around(untrained_tokens="add_tokens('<tool>'…)"),
        silent=dict(),
        known_of_silent=around(adapter="LoraConfig"),
        by_hand=True,
    ),
    "merged-into-bits": Case(
        about=dict(),
        known=around(merged_bits="4 bits"),
        silent=dict(),
        known_of_silent=around(adapter="LoraConfig"),
        by_hand=True,
    ),
}


def lora(**settings) -> peft.LoraConfig:
    usual = dict(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    return peft.LoraConfig(**usual | settings)


def test_a_loaded_adapter_has_no_gradients(tmp_path):
    folder = tmp_path / "adapter"
    peft.get_peft_model(llama(), lora()).save_pretrained(folder)
    frozen = peft.PeftModel.from_pretrained(llama(), folder)
    with pytest.raises(RuntimeError, match="does not require grad"):
        train(tmp_path, frozen, Rows(8), max_steps=1)
    model = peft.PeftModel.from_pretrained(llama(), folder, is_trainable=True)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    train(tmp_path, model, Rows(8), max_steps=1)
    moved = [name for name, weight in model.named_parameters() if not weight.equal(before[name])]
    assert moved and all("lora_" in name for name in moved)


@pytest.mark.parametrize("method", ["set_adapter", "enable_adapter_layers", "train"])
def test_what_switches_gradients_on(method, tmp_path):
    """The words at which the check stays silent do it; `model.train()` does not."""
    peft.get_peft_model(llama(), lora()).save_pretrained(tmp_path)
    model = peft.PeftModel.from_pretrained(llama(), tmp_path)
    arguments = ["default"] if method == "set_adapter" else []
    getattr(model, method)(*arguments)
    trained = any(weight.requires_grad for weight in model.parameters())
    assert trained == (method != "train")


def new_rows(model) -> torch.Tensor:
    """The rows of the embedding that the first 64 tokens do not have, as the model uses them."""
    places = torch.tensor([64, 65])
    return model.get_input_embeddings()(places).detach().clone()


@pytest.mark.parametrize(
    "settings, moves",
    [
        ({}, False),
        (dict(modules_to_save=["embed_tokens", "lm_head"]), True),
        (dict(trainable_token_indices=[64, 65]), True),
        (dict(target_modules=["q_proj", "embed_tokens"]), True),
    ],
)
def test_rows_of_new_tokens(settings, moves, tmp_path):
    model = llama()
    model.resize_token_embeddings(66)
    model = peft.get_peft_model(model, lora(**settings))
    before = new_rows(model)
    rows = Rows(8)
    for row in rows.rows:
        row["input_ids"][::3] = 64
        row["input_ids"][1::3] = 65
    train(tmp_path, model, rows, max_steps=3)
    assert (not new_rows(model).equal(before)) == moves


def in_4_bits(model):
    """The model with the linear layers of its first block in bitsandbytes' 4 bits."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    block = model.model.layers[0].mlp
    for name, layer in list(block.named_children()):
        if isinstance(layer, torch.nn.Linear):
            quantized = bitsandbytes.nn.Linear4bit(
                layer.in_features, layer.out_features, bias=False, quant_type="nf4"
            )
            quantized.load_state_dict({"weight": layer.weight.data})
            setattr(block, name, quantized.to("cpu"))
    model.is_loaded_in_4bit = True
    return model


def shift_by_merging(model) -> float:
    """How far the logits move when an adapter is merged, as a share of their spread."""
    torch.manual_seed(1)
    config = lora(target_modules=["up_proj", "down_proj"], init_lora_weights=False)
    model = peft.get_peft_model(model, config).eval()
    tokens = Rows(1)[0]["input_ids"][None]
    with torch.no_grad():
        before = model(input_ids=tokens).logits
        after = model.merge_and_unload()(input_ids=tokens).logits
    return ((after - before).std() / before.std()).item()


def test_merging_into_4_bits_changes_the_model():
    def wide():
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=1,
            num_attention_heads=2,
            vocab_size=64,
        )
        return transformers.LlamaForCausalLM(config)

    with pytest.warns(UserWarning, match="4-bit linear may get different generations"):
        assert shift_by_merging(in_4_bits(wide())) > 0.05
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*rounding errors")
        assert shift_by_merging(wide()) < 1e-4
