"""The training itself: the same for every caller, every model, and each time."""

import pytest
import torch

from hpkit.finetune import WHOLE, Yardstick, finetune, train

from .conftest import SMALL, same, weights

pytestmark = pytest.mark.slow


def test_the_model_left_loads_and_has_the_loss_written(finished, few_tunes):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hpkit.corpus import encode, load_corpus, pack

    out, run, _ = finished
    model = AutoModelForCausalLM.from_pretrained(out / "model", use_cache=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    blocks = pack(encode(load_corpus(few_tunes), tokenizer)[1], 32)
    losses = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(blocks), 2):
            batch = {
                name: torch.tensor([block[name] for block in blocks[start : start + 2]])
                for name in blocks[0]
            }
            losses += [model(**batch).loss.item()] * len(batch["labels"])
    assert sum(losses) / len(losses) == pytest.approx(run.eval_loss_after, abs=2e-3)


def test_the_optimizer_state_is_uint8_because_bitsandbytes_made_it_so(finished):
    out, run, _ = finished
    state = torch.load(out / "checkpoint-12" / "optimizer.pt", weights_only=True)["state"]
    # bitsandbytes packs what is quantized into a dict of its own when it saves.
    packed = [
        tensor
        for entry in state.values()
        for tensor in entry.get("__bnb_optimizer_quant_state__", {}).values()
    ]
    counted = sum(tensor.numel() for tensor in packed if tensor.dtype == torch.uint8)
    large = sum(
        tensor.numel()
        for name, tensor in weights(out).items()
        if tensor.numel() >= 4096 and "embed" not in name
    )
    assert (
        run.optimizer_state_dtypes["uint8"]["bytes"] == counted == 2 * large
    )  # two averages of one byte each
    assert run.optimizer_state_bytes == sum(
        entry["bytes"] for entry in run.optimizer_state_dtypes.values()
    )


def test_bf16_weights_where_the_recipe_says_so(tiny_model, few_tunes, tmp_path):
    recipe = SMALL.replace(dtype="bfloat16", optim="adamw_torch", max_steps=2)
    run = finetune(recipe, tiny_model, few_tunes, tmp_path / "out", log=None)
    assert run.optimizer_state_dtypes.keys() == {
        "bfloat16",
        "float32",
    }  # the averages; the step counters
    assert {tensor.dtype for tensor in weights(tmp_path / "out").values()} == {torch.bfloat16}


def test_the_same_recipe_twice_gives_the_same_weights(tiny_model, few_tunes, tmp_path, one_thread):
    recipe = SMALL.replace(max_steps=6)
    runs = [finetune(recipe, tiny_model, few_tunes, tmp_path / name, log=None) for name in "ab"]
    other = finetune(recipe.replace(seed=7), tiny_model, few_tunes, tmp_path / "c", log=None)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert runs[0].history == runs[1].history
    assert (tmp_path / "a" / "after.abc").read_bytes() == (
        tmp_path / "b" / "after.abc"
    ).read_bytes()
    assert (tmp_path / "a" / "loss.png").read_bytes() == (tmp_path / "b" / "loss.png").read_bytes()
    assert (
        not same(weights(tmp_path / "a"), weights(tmp_path / "c"))
        and other.history != runs[0].history
    )


def test_training_alone_is_the_same_training(tiny_model, few_tunes, tmp_path, one_thread):
    seen = []
    recipe = SMALL.replace(max_steps=6)
    alone = train(
        recipe,
        tiny_model,
        few_tunes,
        WHOLE,
        watch=lambda update, updates, logged: seen.append((update, updates, logged)),
    )
    kept = finetune(recipe, tiny_model, few_tunes, tmp_path / "out", log=None)
    for name in """history updates tokens eval_loss_after bars_valid_after weights_norm
    evaluation_fingerprint""".split():
        assert getattr(alone, name) == getattr(kept, name), name
    assert kept.weights_norm == pytest.approx(
        sum(w.float().norm() ** 2 for w in weights(tmp_path / "out").values()).item() ** 0.5
    )
    assert [(update, updates) for update, updates, logged in seen if not logged] == [
        (update, 6) for update in range(1, 7)
    ]
    assert [update for update, _, logged in seen if "eval_loss" in logged] == [0, 6]
    assert not alone.diverged and alone.bars_valid_before is None


def test_fused_adamw_is_adamw(tiny_model, few_tunes, one_thread):
    """So a study whose question is not the optimizer may take the one that costs least."""
    runs = []
    for optim in ("adamw_torch", "adamw_torch_fused"):
        recipe = SMALL.replace(optim=optim, logging_steps=1)
        runs.append(train(recipe, tiny_model, few_tunes, Yardstick(sampled_tokens=0)))
    plain, fused = runs
    losses = [[entry["loss"] for entry in run.history if "loss" in entry] for run in runs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4) and len(losses[0]) == 12
    assert plain.eval_loss_after == pytest.approx(fused.eval_loss_after, abs=1e-4)
    assert plain.weights_norm == pytest.approx(fused.weights_norm, rel=1e-6)
    # No tune was sampled, because the yardstick asks for none.
    assert plain.bars_valid_after is None and plain.tunes_parsed_after is None


def test_the_same_yardstick_for_every_length(tiny_model, few_tunes):
    runs = [
        train(
            SMALL.replace(max_steps=2, max_seq_length=length),
            tiny_model,
            few_tunes,
            Yardstick(4, 48, 20),
        )
        for length in (16, 64)
    ]
    assert runs[0].evaluation_fingerprint == runs[1].evaluation_fingerprint
    assert runs[0].eval_loss_before == runs[1].eval_loss_before


def test_any_causal_model_takes_the_same_path(tmp_path):
    """A GPT-2 with a byte-pair tokenizer of its own, tied weights, another vocabulary, on plain
    text.
    """
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    text = "\n\n".join(
        f"Line {number} of a small text about nothing but itself and the number {number}."
        for number in range(60)
    )
    (tmp_path / "text.txt").write_text(text)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([text], vocab_size=300, special_tokens=["<|endoftext|>"])
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token=end, eos_token=end
    )
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=2, n_positions=64)
    ).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    recipe = SMALL.replace(max_seq_length=None, max_steps=30, learning_rate=3e-3)
    run = finetune(
        recipe, str(tmp_path / "gpt2"), str(tmp_path / "text.txt"), tmp_path / "out", log=None
    )
    assert run.eval_loss_after < run.eval_loss_before - 1
    assert run.bars_valid_after is None and (tmp_path / "out" / "after.txt").read_text().strip()
    assert not (tmp_path / "out" / "after.wav").exists()
    assert run.tokens == 30 * 2 * 64


def test_random_weights_end_far_above_the_starter(tmp_path):
    """A short form of the claim: 60 updates of the starter recipe, pre-trained against random."""
    from hpkit.recipe import STARTER

    short = STARTER.replace(max_steps=60, eval_strategy="no", save_strategy="no")
    starter, fresh = (
        finetune(short, model, "airdsAirs", tmp_path / model, log=None)
        for model in ("starter", "fresh")
    )
    assert fresh.eval_loss_after > starter.eval_loss_after + 0.4
    assert starter.eval_loss_after < starter.eval_loss_before
    assert starter.bars_valid_after > fresh.bars_valid_after
    assert (tmp_path / "starter" / "after.wav").exists() and (
        tmp_path / "starter" / "after.png"
    ).exists()
