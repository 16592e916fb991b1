"""
LoRA on Pythia-1B: write commit messages from diffs.
needs: pip install transformers peft datasets
"""
import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

base_model = "EleutherAI/pythia-1b"
out_dir = "./pythia-1b-commits"
cutoff_len = 1024
micro_batch = 4
batch = 32

tokenizer = AutoTokenizer.from_pretrained(base_model)
tokenizer.pad_token = tokenizer.eos_token
tokenizer.padding_side = "right"

model = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.bfloat16)

lora_config = LoraConfig(
    r=16,
    lora_alpha=32,
    target_modules=["q_proj", "v_proj"],
    lora_dropout=0.05,
    bias="none",
    task_type="CAUSAL_LM",
)
model = get_peft_model(model, lora_config)
model.print_trainable_parameters()


def prompt_of(row):
    return f"<diff>\n{row['diff'][:3000]}\n</diff>\nMessage: {row['message']}"


def tokenize(row):
    # the eos at the end tells the model where to stop
    ids = tokenizer(prompt_of(row), truncation=True, max_length=cutoff_len - 1)["input_ids"]
    ids = ids + [tokenizer.eos_token_id]
    return {"input_ids": ids, "attention_mask": [1] * len(ids)}


data = load_dataset("json", data_files="commits.jsonl", split="train")
data = data.train_test_split(test_size=500, seed=3)
train_data = data["train"].map(tokenize, remove_columns=data["train"].column_names)
val_data = data["test"].map(tokenize, remove_columns=data["test"].column_names)

trainer = Trainer(
    model=model,
    train_dataset=train_data,
    eval_dataset=val_data,
    args=TrainingArguments(
        output_dir=out_dir,
        per_device_train_batch_size=micro_batch,
        per_device_eval_batch_size=micro_batch,
        gradient_accumulation_steps=batch // micro_batch,
        warmup_steps=100,
        num_train_epochs=3,
        learning_rate=2e-6,
        bf16=True,
        logging_steps=10,
        optim="adamw_torch",
        eval_strategy="steps",
        eval_steps=200,
        save_strategy="steps",
        save_steps=200,
        save_total_limit=3,
        load_best_model_at_end=True,
        # ddp_find_unused_parameters=False,
        report_to="none",
    ),
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
)
model.config.use_cache = False

trainer.train()
model.save_pretrained(out_dir)
tokenizer.save_pretrained(out_dir)
