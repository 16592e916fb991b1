#!/usr/bin/env python
"""Stance classification of parliament speeches (pro / contra / neutral)."""
import argparse
import json
from pathlib import Path

import numpy as np
from datasets import load_dataset
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
)

LABELS = ["contra", "neutral", "pro"]


def get_parser():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data_dir", type=Path, default=Path("data"))
    p.add_argument("--out", type=Path, default=Path("out/stance"))
    p.add_argument("--model", default="FacebookAI/roberta-base")
    p.add_argument("--bs", type=int, default=32)
    p.add_argument("--lr", type=float, default=2e-5)
    p.add_argument("--epochs", type=int, default=6)
    p.add_argument("--warmup", type=float, default=0.06, help="share of all steps")
    p.add_argument("--patience", type=int, default=2)
    p.add_argument("--max_len", type=int, default=256)
    p.add_argument("--fp16", action="store_true")
    return p


def build_training_args(ns):
    batch = dict(per_device_train_batch_size=ns.bs, per_device_eval_batch_size=2 * ns.bs)
    return TrainingArguments(
        output_dir=str(ns.out),
        learning_rate=ns.lr,
        num_train_epochs=ns.epochs,
        warmup_steps=ns.warmup,
        weight_decay=0.01,
        fp16=ns.fp16,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        greater_is_better=True,
        **batch,
    )


def compute_metrics(pred):
    guess = np.argmax(pred.predictions, axis=-1)
    return {
        "accuracy": accuracy_score(pred.label_ids, guess),
        "macro_f1": f1_score(pred.label_ids, guess, average="macro"),
    }


def main():
    ns = get_parser().parse_args()
    files = {s: str(ns.data_dir / f"{s}.jsonl") for s in ("train", "dev")}
    data = load_dataset("json", data_files=files)
    tok = AutoTokenizer.from_pretrained(ns.model)

    def encode(batch):
        enc = tok(batch["speech"], truncation=True, max_length=ns.max_len)
        enc["labels"] = [LABELS.index(x) for x in batch["stance"]]
        return enc

    data = data.map(encode, batched=True, remove_columns=data["train"].column_names)
    model = AutoModelForSequenceClassification.from_pretrained(
        ns.model, num_labels=len(LABELS), id2label=dict(enumerate(LABELS)), label2id={l: i for i, l in enumerate(LABELS)}
    )
    trainer = Trainer(
        model=model,
        args=build_training_args(ns),
        train_dataset=data["train"],
        eval_dataset=data["dev"],
        data_collator=DataCollatorWithPadding(tok),
        processing_class=tok,
        compute_metrics=compute_metrics,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=ns.patience)],
    )
    trainer.train()
    (ns.out / "dev.json").write_text(json.dumps(trainer.evaluate(), indent=1))
    trainer.save_model(str(ns.out / "best"))


if __name__ == "__main__":
    main()
