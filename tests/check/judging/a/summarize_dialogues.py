"""BART on DialogSum, following the summarization chapter of the course (with my changes)."""
import nltk
import numpy as np
import torch
import evaluate
from datasets import load_dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    EarlyStoppingCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

nltk.download("punkt_tab", quiet=True)

model_checkpoint = "facebook/bart-base"
max_input_length = 768
max_target_length = 128
batch_size = 8

dialogsum = load_dataset("knkarthick/dialogsum")
tokenizer = AutoTokenizer.from_pretrained(model_checkpoint)
model = AutoModelForSeq2SeqLM.from_pretrained(model_checkpoint, dtype=torch.float32)


def preprocess_function(examples):
    model_inputs = tokenizer(examples["dialogue"], max_length=max_input_length, truncation=True)
    labels = tokenizer(text_target=examples["summary"], max_length=max_target_length, truncation=True)
    model_inputs["labels"] = labels["input_ids"]
    return model_inputs


tokenized = dialogsum.map(preprocess_function, batched=True, remove_columns=dialogsum["train"].column_names)
rouge = evaluate.load("rouge")


def compute_metrics(eval_pred):
    predictions, labels = eval_pred
    if isinstance(predictions, tuple):
        predictions = predictions[0]
    predictions = np.where(predictions != -100, predictions, tokenizer.pad_token_id)
    labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
    decoded_preds = tokenizer.batch_decode(predictions, skip_special_tokens=True)
    decoded_labels = tokenizer.batch_decode(labels, skip_special_tokens=True)
    # rougeLSum wants one sentence per line
    decoded_preds = ["\n".join(nltk.sent_tokenize(p.strip())) for p in decoded_preds]
    decoded_labels = ["\n".join(nltk.sent_tokenize(t.strip())) for t in decoded_labels]
    result = rouge.compute(predictions=decoded_preds, references=decoded_labels, use_stemmer=True)
    return {k: round(v * 100, 4) for k, v in result.items()}


use_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
model_name = model_checkpoint.split("/")[-1]
# 12,460 dialogues, 8 * 2 per step -> 779 steps an epoch
logging_steps = len(tokenized["train"]) // (batch_size * 2) // 8

args = Seq2SeqTrainingArguments(
    output_dir=f"{model_name}-dialogsum",
    eval_strategy="epoch",
    save_strategy="epoch",
    learning_rate=3e-5,
    per_device_train_batch_size=batch_size,
    per_device_eval_batch_size=batch_size * 2,
    gradient_accumulation_steps=2,
    weight_decay=0.01,
    warmup_steps=200,
    label_smoothing_factor=0.1,
    save_total_limit=2,
    num_train_epochs=5,
    predict_with_generate=True,
    generation_max_length=max_target_length,
    generation_num_beams=4,
    load_best_model_at_end=True,
    metric_for_best_model="rougeL",
    greater_is_better=True,
    bf16=use_bf16,
    fp16=torch.cuda.is_available() and not use_bf16,
    logging_steps=logging_steps,
    # push_to_hub=True,
    report_to="none",
)

data_collator = DataCollatorForSeq2Seq(tokenizer, model=model)

trainer = Seq2SeqTrainer(
    model,
    args,
    train_dataset=tokenized["train"],
    eval_dataset=tokenized["validation"],
    data_collator=data_collator,
    processing_class=tokenizer,
    compute_metrics=compute_metrics,
    callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
)

if __name__ == "__main__":
    trainer.train()
    print(trainer.evaluate(tokenized["test"], metric_key_prefix="test"))
    trainer.save_model()
