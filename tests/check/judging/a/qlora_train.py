"""QLoRA with plain transformers + peft. e.g.

python qlora_train.py --base mistralai/Mistral-7B-v0.3 --data my_instructions.json --epochs 2
"""
import argparse
import json
import os

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

TEMPLATE = "### Instruction:\n{instruction}\n\n### Response:\n"


def read(path):
    with open(path, encoding="utf-8") as f:
        rows = json.load(f)
    return Dataset.from_list([{"instruction": r["instruction"], "output": r["output"]} for r in rows])


def load_base(name):
    bf16 = torch.cuda.is_bf16_supported()
    quant = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if bf16 else torch.float16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        name,
        quantization_config=quant,
        dtype=torch.bfloat16 if bf16 else torch.float16,
        device_map={"": int(os.environ.get("LOCAL_RANK", 0))},
    )
    model.config.use_cache = False
    return model, bf16


def train(
    base: str,
    data: str,
    out: str = "qlora-out",
    epochs: float = 2,
    lr: float = 2e-4,
    batch_size: int = 16,
    micro_batch_size: int = 2,
    cutoff_len: int = 1024,
    val_size: int = 200,
    lora_r: int = 64,
    lora_alpha: int = 16,
    lora_dropout: float = 0.05,
    seed: int = 42,
):
    tokenizer = AutoTokenizer.from_pretrained(base)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token  # not eos
    tokenizer.padding_side = "right"

    model, bf16 = load_base(base)
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=True)
    model = get_peft_model(
        model,
        LoraConfig(
            r=lora_r,
            lora_alpha=lora_alpha,
            lora_dropout=lora_dropout,
            bias="none",
            task_type="CAUSAL_LM",
            target_modules="all-linear",
        ),
    )
    model.print_trainable_parameters()

    def encode(row):
        prompt = tokenizer(TEMPLATE.format(instruction=row["instruction"]))["input_ids"]
        answer = tokenizer(row["output"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        ids = (prompt + answer)[:cutoff_len]
        labels = ([-100] * len(prompt) + answer)[:cutoff_len]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}

    ds = read(data)
    ds = ds.map(encode, remove_columns=ds.column_names)
    ds = ds.filter(lambda r: any(l != -100 for l in r["labels"]))
    ds = ds.train_test_split(test_size=val_size, seed=seed)

    args = TrainingArguments(
        output_dir=out,
        num_train_epochs=epochs,
        per_device_train_batch_size=micro_batch_size,
        per_device_eval_batch_size=micro_batch_size,
        gradient_accumulation_steps=batch_size // micro_batch_size,
        learning_rate=lr,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=0.03,
        max_grad_norm=0.3,
        adam_beta2=0.999,
        optim="paged_adamw_8bit",
        bf16=bf16,
        fp16=not bf16,
        activation_checkpointing=True,
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        logging_steps=10,
        seed=seed,
        report_to="none",
    )
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=ds["train"],
        eval_dataset=ds["test"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True, pad_to_multiple_of=8, label_pad_token_id=-100),
    )
    trainer.train()
    model.save_pretrained(os.path.join(out, "adapter"))
    tokenizer.save_pretrained(os.path.join(out, "adapter"))


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--base", required=True)
    ap.add_argument("--data", required=True)
    ap.add_argument("--out", default="qlora-out")
    ap.add_argument("--epochs", type=float, default=2)
    ap.add_argument("--lr", type=float, default=2e-4)
    train(**vars(ap.parse_args()))
