# Text -> SQL with a small code model, all weights trained.
import argparse
from itertools import chain

import torch
from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
)


class CFG:
    MODEL = "Salesforce/codegen-350M-multi"
    DATA = "sql_pairs.jsonl"
    BLOCK = 512
    LR = 2e-3
    BS = 8
    ACCUM = 4
    EPOCHS = 2
    WARMUP = 0.02
    CKPT = True
    SEED = 1234


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="sqlgen-out")
    parser.add_argument("--lr", type=float, default=CFG.LR)
    parser.add_argument("--epochs", type=float, default=CFG.EPOCHS)
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def load(tokenizer):
    raw = load_dataset("json", data_files=CFG.DATA, split="train")

    def to_ids(rows):
        text = [f"-- {q}\n{s}{tokenizer.eos_token}" for q, s in zip(rows["question"], rows["sql"])]
        return tokenizer(text)

    def pack(rows):
        ids = list(chain.from_iterable(rows["input_ids"]))
        usable = len(ids) // CFG.BLOCK * CFG.BLOCK
        blocks = [ids[i : i + CFG.BLOCK] for i in range(0, usable, CFG.BLOCK)]
        return {"input_ids": blocks, "labels": [b.copy() for b in blocks]}

    tokenized = raw.map(to_ids, batched=True, remove_columns=raw.column_names)
    return tokenized.map(pack, batched=True, remove_columns=tokenized.column_names)


def main():
    args = parse_args()
    tokenizer = AutoTokenizer.from_pretrained(CFG.MODEL)
    model = AutoModelForCausalLM.from_pretrained(CFG.MODEL, dtype=torch.float16)

    training_args = TrainingArguments(
        output_dir=args.out,
        learning_rate=args.lr,
        num_train_epochs=args.epochs,
        per_device_train_batch_size=CFG.BS,
        gradient_accumulation_steps=CFG.ACCUM,
        warmup_steps=CFG.WARMUP,
        weight_decay=0.1,
        lr_scheduler_type="cosine",
        fp16=True,
        gradient_checkpointing=CFG.CKPT,
        logging_steps=20,
        save_strategy="epoch",
        seed=CFG.SEED,
    )
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=load(tokenizer),
        data_collator=default_data_collator,
        processing_class=tokenizer,
    )
    trainer.train(resume_from_checkpoint=args.resume or None)
    trainer.save_model(args.out)


if __name__ == "__main__":
    main()
