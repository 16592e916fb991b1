"""Regress star ratings from hotel reviews; one base setting, tweaked for each machine."""
import dataclasses
import os

import torch
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

BASE = "microsoft/MiniLM-L12-H384-uncased"

settings = {
    "output_dir": "runs/stars",
    "learning_rate": 3e-5,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "lr_scheduler_type": "constant",
    "warmup_steps": 200,
    "weight_decay": 0.01,
    "logging_steps": 50,
    "save_strategy": "epoch",
}
if torch.cuda.is_available():
    settings.update(per_device_train_batch_size=64, fp16=True)
if os.environ.get("QUICK"):
    settings["num_train_epochs"] = 1

args = TrainingArguments(**settings)
args.per_device_eval_batch_size = 128
args.evaluation_strategy = "epoch"
args.save_total_limit = 2
args.dataloader_num_workers = 4

tok = AutoTokenizer.from_pretrained(BASE)
reviews = load_dataset("csv", data_files={"train": "reviews_train.csv", "dev": "reviews_dev.csv"})


def prep(rows):
    enc = tok(rows["review"], truncation=True, max_length=200)
    enc["labels"] = [float(s) for s in rows["stars"]]
    return enc


reviews = reviews.map(prep, batched=True, remove_columns=reviews["train"].column_names)


def run(a, tag):
    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=1, problem_type="regression")
    t = Trainer(
        model=model,
        args=a,
        train_dataset=reviews["train"],
        eval_dataset=reviews["dev"],
        processing_class=tok,
    )
    t.train()
    t.save_model(f"{a.output_dir}/{tag}")


run(args, "base")
for seed in (1, 2):
    run(dataclasses.replace(args, seed=seed, output_dir=f"runs/stars-{seed}"), "again")
