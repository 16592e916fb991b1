#!/usr/bin/env python
# Intent classification with DistilRoBERTa on banking77 (10,003 train / 3,080 test)
import numpy as np
import torch
from datasets import load_dataset
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

set_seed(1337)
CHECKPOINT = "distilbert/distilroberta-base"
MAX_LEN = 96

raw = load_dataset("legacy-datasets/banking77")
labels = raw["train"].features["label"].names
id2label = dict(enumerate(labels))
label2id = {v: k for k, v in id2label.items()}

tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)


def preprocess(batch):
    return tokenizer(batch["text"], truncation=True, max_length=MAX_LEN)


tokenized = raw.map(preprocess, batched=True, remove_columns=["text"])
split = tokenized["train"].train_test_split(test_size=0.1, seed=1337, stratify_by_column="label")

model = AutoModelForSequenceClassification.from_pretrained(
    CHECKPOINT,
    num_labels=len(labels),
    id2label=id2label,
    label2id=label2id,
)


def compute_metrics(p):
    preds = np.argmax(p.predictions, axis=-1)
    precision, recall, macro_f1, _ = precision_recall_fscore_support(
        p.label_ids, preds, average="macro", zero_division=0
    )
    return {
        "accuracy": accuracy_score(p.label_ids, preds),
        "precision": precision,
        "recall": recall,
        "macro_f1": macro_f1,
    }


# 9,002 rows / 32 -> 282 steps per epoch
args = TrainingArguments(
    output_dir="banking77-distilroberta",
    learning_rate=5e-5,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=64,
    num_train_epochs=6,
    weight_decay=0.01,
    warmup_steps=150,
    eval_strategy="steps",
    eval_steps=100,
    save_strategy="epoch",
    save_total_limit=2,
    load_best_model_at_end=True,
    metric_for_best_model="f1",
    greater_is_better=True,
    fp16=torch.cuda.is_available(),
    logging_steps=50,
    # dataloader_num_workers=4,
    report_to="none",
)

trainer = Trainer(
    model=model,
    args=args,
    train_dataset=split["train"],
    eval_dataset=split["test"],
    processing_class=tokenizer,
    data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8),
    compute_metrics=compute_metrics,
    callbacks=[EarlyStoppingCallback(early_stopping_patience=4)],
)

trainer.train()

test = trainer.evaluate(tokenized["test"], metric_key_prefix="test")
print({k: round(v, 4) for k, v in test.items()})
trainer.save_model("banking77-distilroberta/best")
