"""Rules about the code around a call, against the libraries' own errors and against trainings."""

import datasets
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from torch.utils.data import IterableDataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from hpkit.preflight import Surroundings, Written

from ..support import Case, Rows, found, llama, train


def around(**facts):
    return dict(written=Written(around=Surroundings(**facts)))


#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "streaming-without-max-steps": Case(
        about=dict(),
        known=around(streaming=True),
        silent=dict(max_steps=500),
        known_of_silent=around(streaming=True),
    ),
    "quantized-without-adapter": Case(
        about=dict(),
        known=around(quantized="4 bits"),
        silent=dict(),
        known_of_silent=around(quantized="4 bits", adapter="LoraConfig"),
        by_hand=True,
    ),
    "adapter-not-applied": Case(
        about=dict(), known=around(idle_adapter="LoraConfig"), silent=dict(), by_hand=True
    ),
    "bits-argument-gone": Case(
        about=dict(),
        known=around(bits_argument="load_in_8bit"),
        silent=dict(),
        known_of_silent=dict(
            written=Written(
                pins={"transformers": "<5"}, around=Surroundings(bits_argument="load_in_8bit")
            )
        ),
        by_hand=True,
    ),
    "best-metric-not-computed": Case(
        about=dict(metric_for_best_model="f1", eval_strategy="epoch"),
        known=around(metrics=("accuracy",)),
        silent=dict(metric_for_best_model="eval_accuracy", eval_strategy="epoch"),
        known_of_silent=around(metrics=("accuracy",)),
    ),
    "pad-is-end-mark": Case(
        about=dict(), known=around(pad_is_eos="pad = eos"), silent=dict(), by_hand=True
    ),
    "tokens-without-embedding": Case(
        about=dict(),
        known=around(added_tokens="add_tokens", model_name="org/m"),
        silent=dict(),
        # Which model is trained is not told.
        known_of_silent=around(added_tokens="add_tokens"),
        by_hand=True,
    ),
    "logits-kept": Case(
        about=dict(eval_strategy="epoch"),
        known=around(logits_kept="compute_metrics"),
        silent=dict(eval_strategy="epoch", eval_accumulation_steps=1),
        known_of_silent=around(logits_kept="compute_metrics"),
        by_hand=True,
    ),
    "adapter-scale": Case(
        about=dict(),
        known=around(adapter_scale=64.0),
        silent=dict(),
        known_of_silent=around(adapter_scale=2.0),
        by_hand=True,
    ),
    "keys-exclude": Case(
        about=dict(),
        known=around(together=(("warmup_steps", "warmup_ratio"),)),
        silent=dict(),
        by_hand=True,
    ),
    "reference-not-synchronised": Case(
        about=dict(sync_ref_model=True),
        known=dict(
            written=Written(
                name="DPOConfig", origin="trl", around=Surroundings(adapter="LoraConfig")
            )
        ),
        silent=dict(sync_ref_model=True),
        known_of_silent=dict(written=Written(name="DPOConfig", origin="trl")),
    ),
    "answers-all-alike": Case(
        about=dict(temperature=0),
        known=dict(written=Written(name="GRPOConfig", origin="trl")),
        silent=dict(temperature=0.7),
        known_of_silent=dict(written=Written(name="GRPOConfig", origin="trl")),
    ),
    "generations-do-not-divide": Case(
        about=dict(per_device_train_batch_size=16, num_generations=6),
        known=dict(written=Written(name="GRPOConfig", origin="trl")),
        silent=dict(per_device_train_batch_size=16, num_generations=4),
        known_of_silent=dict(written=Written(name="GRPOConfig", origin="trl")),
    ),
}


def test_a_stream_without_max_steps_is_refused(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(Rows(8))

    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(ValueError, match="max_steps has to be specified"):
        Trainer(model=llama(), args=arguments, train_dataset=Stream())
    fired = found(dict(), **around(streaming=True))["streaming-without-max-steps"]
    arguments = TrainingArguments(
        str(tmp_path), use_cpu=True, report_to="none", max_steps=fired.changes["max_steps"]
    )
    Trainer(model=llama(), args=arguments, train_dataset=Stream())


def test_a_quantized_model_alone_is_refused(tmp_path):
    model = llama()
    model.is_quantized = True  # as bitsandbytes' quantizer marks it
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(ValueError, match="purely quantized|attach trainable adapters"):
        Trainer(model=model, args=arguments, train_dataset=Rows(8))


def test_bits_belong_to_a_configuration(tmp_path):
    llama().save_pretrained(tmp_path)
    for bits in ("load_in_4bit", "load_in_8bit"):
        with pytest.raises(TypeError, match=bits):
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path, **{bits: True})


def test_a_metric_that_nobody_computes_ends_the_run(tmp_path):
    run = dict(
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        metric_for_best_model="f1",
    )
    with pytest.raises(KeyError, match="f1"):
        train(tmp_path, llama(), Rows(8), **run)
    assert "best-metric-not-computed" in found(run, **around(metrics=()))
    # Where the text does not tell what is computed, nothing is said.
    assert "best-metric-not-computed" not in found(run)


class Tokenizer:
    """As much of one as the collator asks for."""

    pad_token_id = 2
    pad_token = "</s>"
    padding_side = "right"

    def pad(self, features, **kwargs):
        ids = torch.tensor([feature["input_ids"] for feature in features])
        return transformers.BatchEncoding({"input_ids": ids})


def test_the_collator_masks_the_end_mark_where_it_is_the_padding():
    collator = DataCollatorForLanguageModeling(Tokenizer(), mlm=False)
    row = {"input_ids": [5, 6, 2]}  # 2 is the end mark, and here the padding
    assert collator([row])["labels"].tolist() == [[5, 6, -100]]


def test_a_token_without_a_row_is_an_index_error():
    model = llama()
    beyond = torch.tensor([[1, model.config.vocab_size]])
    with pytest.raises(IndexError):
        model(input_ids=beyond)
    model.resize_token_embeddings(model.config.vocab_size + 1)
    model(input_ids=beyond)


def test_an_evaluation_keeps_all_logits(tmp_path):
    """Rows x places x vocabulary numbers reach compute_metrics at once."""
    seen = []

    def metrics(predictions):
        seen.append(np.asarray(predictions.predictions).shape)
        return {"n": 0}

    arguments = TrainingArguments(
        str(tmp_path), use_cpu=True, report_to="none", per_device_eval_batch_size=2
    )
    trainer = Trainer(model=llama(), args=arguments, eval_dataset=Rows(6), compute_metrics=metrics)
    trainer.evaluate()
    assert seen == [(6, 16, 64)]


@pytest.mark.parametrize("generations", [2, 3, 6, 8])
@pytest.mark.parametrize("batch, accumulation", [(8, 1), (16, 1), (4, 3), (12, 2)])
def test_trl_refuses_groups_that_do_not_divide(generations, batch, accumulation, tmp_path):
    trl = pytest.importorskip("trl")
    run = dict(
        num_generations=generations,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
    )

    def is_refused(settings: dict) -> bool:
        try:
            trl.GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, **settings)
        except ValueError:
            return True
        return False

    fired = found(run, written=Written(name="GRPOConfig", origin="trl"))
    finding = fired.get("generations-do-not-divide")
    # Fewer answers than one prompt has come from a script for several devices.
    is_for_several = batch * accumulation < generations
    assert is_refused(run) == (finding is not None or is_for_several)
    if finding:
        assert not is_refused(run | dict(finding.changes))


def test_a_round_that_is_told_is_mended_to_a_multiple_of_both(tmp_path):
    trl = pytest.importorskip("trl")
    run = dict(per_device_train_batch_size=12, generation_batch_size=12, num_generations=8)
    fired = found(run, written=Written(name="GRPOConfig", origin="trl"))
    changes = fired["generations-do-not-divide"].changes
    assert changes == {"generation_batch_size": 24}
    trl.GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, **run | changes)


def test_fp16_weights_cannot_be_unscaled():
    """As the Trainer does it on a GPU: scale the loss, unscale the gradients before the update."""
    for dtype, works in ((torch.float16, False), (torch.float32, True)):
        weight = torch.nn.Parameter(torch.ones(4, dtype=dtype))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale(weight.sum().float()).backward()
        if works:
            scaler.unscale_(optimizer)
        else:
            with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
                scaler.unscale_(optimizer)


def test_temperature_0_is_refused_by_generate():
    with pytest.raises(ValueError, match="temperature"):
        transformers.generation.TemperatureLogitsWarper(0.0)


def test_trl_synchronises_no_adapter(tmp_path):
    trl = pytest.importorskip("trl")
    peft = pytest.importorskip("peft")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"<unk>": 0, "a": 1, "b": 2, "</s>": 3}, unk_token="<unk>")
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )
    rows = [{"prompt": "a", "chosen": "b", "rejected": "a"}]
    arguments = trl.DPOConfig(
        str(tmp_path), use_cpu=True, bf16=False, report_to="none", sync_ref_model=True
    )
    with pytest.raises(NotImplementedError, match="adapter|PEFT"):
        trl.DPOTrainer(
            model=llama(),
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=peft.LoraConfig(target_modules="all-linear"),
        )


@pytest.mark.slow
def test_a_large_scale_is_a_large_rate(tmp_path):
    """The same rows, rate and rank: alpha / r of 64 ends far above that of 2."""
    peft = pytest.importorskip("peft")
    losses = {}
    for alpha in (16, 512):
        model = llama()
        torch.manual_seed(0)
        config = peft.LoraConfig(r=8, lora_alpha=alpha, target_modules="all-linear")
        trainer = train(
            tmp_path,
            peft.get_peft_model(model, config),
            Rows(32),
            max_steps=60,
            learning_rate=1e-2,
            optim="adamw_torch",
        )
        losses[alpha] = trainer.evaluate()["eval_loss"]
    assert losses[512] > losses[16]


@pytest.mark.slow
def test_an_adapter_that_no_model_gets_trains_everything(tmp_path):
    peft = pytest.importorskip("peft")
    model = llama()
    whole = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules="all-linear"))
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert trained < whole / 2
