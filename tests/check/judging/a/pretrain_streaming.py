# Continue the pretraining of SmolLM2-360M on a streamed web corpus (all weights, no adapters).
# torchrun --nproc_per_node 1 pretrain_streaming.py
from itertools import chain

import torch
from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

MODEL_ID = "HuggingFaceTB/SmolLM2-360M"
CORPUS = ("HuggingFaceFW/fineweb-2", "isl_Latn")
BLOCK = 2048
STEPS = 4_000  # 4,000 x 64 x 2,048 = 0.52 B tokens
SEED = 29

COMMON = dict(
    output_dir="smollm2-360m-is",
    seed=SEED,
    report_to=["tensorboard"],
    logging_steps=20,
)


def chunk(tokenizer):
    eos = tokenizer.eos_token_id

    def fn(batch):
        ids = tokenizer(batch["text"], add_special_tokens=False)["input_ids"]
        flat = list(chain.from_iterable(x + [eos] for x in ids))
        n = (len(flat) // BLOCK) * BLOCK
        blocks = [flat[i : i + BLOCK] for i in range(0, n, BLOCK)]
        # every block is full, so nothing is ever padded
        return {"input_ids": blocks, "labels": [list(b) for b in blocks]}

    return fn


def streams(tokenizer):
    ds = load_dataset(*CORPUS, split="train", streaming=True)
    ds = ds.select_columns(["text"])
    held_out, rest = ds.take(2_000), ds.skip(2_000)
    train = rest.shuffle(seed=SEED, buffer_size=20_000).map(
        chunk(tokenizer), batched=True, batch_size=500, remove_columns=["text"]
    )
    val = held_out.map(chunk(tokenizer), batched=True, batch_size=500, remove_columns=["text"])
    return train, val


def main():
    set_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_ID)
    # fp32 master weights, autocast to bf16 by the Trainer
    model = AutoModelForCausalLM.from_pretrained(MODEL_ID, dtype=torch.float32, attn_implementation="sdpa")
    model.config.use_cache = False
    train, val = streams(tokenizer)

    args = TrainingArguments(
        **COMMON,
        max_steps=STEPS,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        gradient_accumulation_steps=8,
        learning_rate=1e-4,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=200,
        weight_decay=0.1,
        adam_beta1=0.9,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        bf16=True,
        activation_checkpointing=True,
        eval_strategy="steps",
        eval_steps=500,
        save_strategy="steps",
        save_steps=500,
        save_total_limit=3,
        # torch_compile=True,  # slower to start
    )

    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=val,
        processing_class=tokenizer,
        data_collator=default_data_collator,
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
