"""Rules about adapters, against peft's own errors and warnings and against trainings."""

import warnings

import bitsandbytes
import peft
import pytest
import torch
import transformers

from hpkit.check.adapter_facts import scale_of
from hpkit.corpus import blocks_of, load_corpus
from hpkit.model import load_model
from hpkit.preflight import Surroundings, Written
from hpkit.preflight.rules.rates import DEFAULT_RATE

from ..support import Case, Rows, found, llama, train


def around(**facts):
    return dict(written=Written(around=Surroundings(**facts)))


SHAPE = llama().config
#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "adapter-frozen": Case(
        about=dict(),
        known=around(frozen_adapter="PeftModel.from_pretrained"),
        silent=dict(),
        known_of_silent=around(adapter="PeftModel"),
        by_hand=True,
    ),
    "adapter-default-rate": Case(
        about=dict(num_train_epochs=2),
        known=around(adapter="LoraConfig"),
        silent=dict(num_train_epochs=2, learning_rate=5e-5),
        known_of_silent=around(adapter="LoraConfig"),
    ),
    "target-modules-missed": Case(
        about=dict(),
        known=dict(model=SHAPE, **around(target_modules=("q_proj", "c_attn"))),
        silent=dict(),
        known_of_silent=dict(model=SHAPE, **around(target_modules=("q_proj", "v_proj"))),
        by_hand=True,
    ),
    "fp16-adapter-unscaled": Case(
        about=dict(fp16=True),
        known=around(fp16_adapter="model.half()"),
        silent=dict(bf16=True),
        known_of_silent=around(fp16_adapter="model.half()"),
        by_hand=True,
    ),
    "adapter-rank": Case(
        about=dict(),
        known=around(adapter_rank=0),
        silent=dict(),
        known_of_silent=around(adapter_rank=8),
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


@pytest.mark.parametrize("rank", [0, -1])
def test_peft_refuses_a_rank_of_nothing(rank):
    with pytest.raises(ValueError, match="positive integer"):
        peft.get_peft_model(llama(), lora(r=rank))


@pytest.mark.parametrize(
    "targets, missed, stops",
    [
        (["q_proj", "v_proj"], [], False),
        (["q_proj", "c_attn"], ["c_attn"], False),
        (["mlp.up_proj", "lm_head"], [], False),
        (["c_attn", "c_proj"], ["c_attn", "c_proj"], True),
        ("q_proj", ["q_proj"], True),
        (".*q_proj", [], False),
        (r"model\.layers\.0\.self_attn\.(q|v)_proj", [], False),
        (r"model\.layers\.7\..*", [r"model\.layers\.7\..*"], True),
        ("all-linear", [], False),
    ],
)
def test_the_layers_that_peft_finds(targets, missed, stops):
    known = targets if isinstance(targets, str) else tuple(targets)
    fired = found({}, model=SHAPE, **around(target_modules=known)).get("target-modules-missed")
    assert (fired.evidence["missed"] if fired else []) == missed
    try:
        model = peft.get_peft_model(llama(), lora(target_modules=targets))
    except ValueError as error:
        assert stops and "not found in the base model" in str(error)
        assert fired.severity == "error"
        return
    assert not stops
    adapted = {
        name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name
    }
    for target in [] if isinstance(targets, str) else targets:
        assert any(name.endswith("." + target) for name in adapted) == (target not in missed)


def test_the_layers_are_named():
    fired = found({}, model=SHAPE, **around(target_modules=("c_attn",)))["target-modules-missed"]
    assert "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj" in fired.fix
    # Of a model with another shape nobody knows the names, and of one by its size alone.
    assert "target-modules-missed" not in found({}, model="7B", **around(target_modules=("c",)))


@pytest.mark.parametrize("alpha, rank, by_root", [(32, 16, False), (128, 16, True), (16, 64, True)])
def test_the_scale_is_pefts(alpha, rank, by_root):
    model = peft.get_peft_model(llama(), lora(r=rank, lora_alpha=alpha, use_rslora=by_root))
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    assert layer.scaling["default"] == scale_of(alpha, rank, by_root)


def loss_of_tunes(folder, config: peft.LoraConfig | None, rate: float) -> float:
    """The loss on unseen tunes after 30 updates of the starter model, or of an adapter on it."""
    model, tokenizer = load_model("starter")
    rows, unseen = blocks_of(load_corpus("airdsAirs"), tokenizer, 64)
    if config:
        torch.manual_seed(0)
        model = peft.get_peft_model(model, config)
    trainer = train(folder, model, rows, max_steps=30, learning_rate=rate)
    return trainer.evaluate(unseen)["eval_loss"]


@pytest.mark.slow
def test_an_alpha_of_plain_lora_is_too_large_by_the_root(tmp_path):
    """The same rows, rate, rank and alpha: 8 is a scale to train with, and 32 ruins the model."""
    config = dict(r=16, lora_alpha=128)
    plain = loss_of_tunes(tmp_path, lora(**config), 3e-3)
    by_root = loss_of_tunes(tmp_path, lora(**config, use_rslora=True), 3e-3)
    assert by_root > plain + 0.2


@pytest.mark.slow
def test_an_adapter_lags_behind_at_the_default_rate(tmp_path):
    """What is right for all weights is far too little for an adapter."""
    adapter = lora(r=16, lora_alpha=32)
    lagging = loss_of_tunes(tmp_path, adapter, DEFAULT_RATE)
    assert lagging > loss_of_tunes(tmp_path, None, DEFAULT_RATE) + 0.02
    assert lagging > loss_of_tunes(tmp_path, adapter, 2e-3) + 0.05


@pytest.mark.parametrize("base", [torch.float16, torch.bfloat16])
def test_the_format_of_an_adapters_weights(base):
    def formats(model) -> set:
        return {weight.dtype for name, weight in model.named_parameters() if "lora_" in name}

    assert formats(peft.get_peft_model(llama().to(base), lora())) == {torch.float32}
    kept = peft.get_peft_model(llama().to(base), lora(), autocast_adapter_dtype=False)
    assert formats(kept) == {base}
    assert formats(peft.get_peft_model(llama(), lora()).to(base)) == {base}


def test_an_adapter_in_fp16_cannot_be_unscaled():
    """As the Trainer does it on a GPU: scale the loss, unscale the gradients before the update."""
    tokens = Rows(1)[0]["input_ids"][None]
    for cast, works in ((True, False), (False, True)):
        model = peft.get_peft_model(llama().half(), lora(), autocast_adapter_dtype=not cast)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained)
        scaler = torch.amp.GradScaler("cpu")
        with torch.autocast("cpu", dtype=torch.float16):
            loss = model(input_ids=tokens, labels=tokens).loss
        scaler.scale(loss.float()).backward()
        if works:
            scaler.unscale_(optimizer)
        else:
            with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
                scaler.unscale_(optimizer)


def test_the_default_rates_of_the_libraries(tmp_path):
    trl = pytest.importorskip("trl")
    usual = dict(use_cpu=True, bf16=False)
    assert transformers.TrainingArguments(str(tmp_path), **usual).learning_rate == DEFAULT_RATE
    assert trl.SFTConfig(str(tmp_path), **usual).learning_rate == 2e-5


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
