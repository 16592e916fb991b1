"""Teach a small open model to answer in haiku (8 bit + LoRA, one consumer card)."""
from dataclasses import dataclass, field
from typing import List

import torch
import transformers
from datasets import load_dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser


@dataclass
class RunArguments:
    base_model: str = "openlm-research/open_llama_3b_v2"
    data_path: str = field(default="haiku_instructions.json")
    output_dir: str = "./lora-haiku"
    # training hyperparams
    micro_batch_size: int = 4
    batch_size: int = 64
    num_epochs: int = 3
    learning_rate: float = 3e-4
    cutoff_len: int = 256
    val_set_size: int = 1000
    # lora hyperparams
    lora_r: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    lora_target_modules: List[str] = field(default_factory=lambda: ["q_proj", "v_proj"])


class HaikuCollator:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, features):
        batch = self.tokenizer.pad(features, return_tensors="pt", pad_to_multiple_of=8)
        labels = batch["input_ids"].clone()
        labels[labels == self.tokenizer.pad_token_id] = -100
        batch["labels"] = labels
        return batch


def main():
    (run,) = HfArgumentParser(RunArguments).parse_args_into_dataclasses()
    gradient_accumulation_steps = run.batch_size // run.micro_batch_size

    model = AutoModelForCausalLM.from_pretrained(
        run.base_model,
        load_in_8bit=True,
        dtype=torch.float16,
        device_map="auto",
    )
    tokenizer = AutoTokenizer.from_pretrained(run.base_model)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"  # allow batched inference

    def tokenize(point):
        text = f"### Wish:\n{point['instruction']}\n\n### Haiku:\n{point['haiku']}"
        ids = tokenizer(text, truncation=True, max_length=run.cutoff_len - 1)["input_ids"]
        ids.append(tokenizer.eos_token_id)
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}

    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model = get_peft_model(
        model,
        LoraConfig(
            r=run.lora_r,
            lora_alpha=run.lora_alpha,
            target_modules=run.lora_target_modules,
            lora_dropout=run.lora_dropout,
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )
    model.print_trainable_parameters()

    data = load_dataset("json", data_files=run.data_path)["train"]
    parts = data.train_test_split(test_size=run.val_set_size, shuffle=True, seed=7)
    train_data = parts["train"].map(tokenize, remove_columns=data.column_names)
    val_data = parts["test"].map(tokenize, remove_columns=data.column_names)

    trainer = transformers.Trainer(
        model=model,
        train_dataset=train_data,
        eval_dataset=val_data,
        args=transformers.TrainingArguments(
            per_device_train_batch_size=run.micro_batch_size,
            gradient_accumulation_steps=gradient_accumulation_steps,
            warmup_steps=100,
            num_train_epochs=run.num_epochs,
            learning_rate=run.learning_rate,
            fp16=True,
            logging_steps=10,
            eval_strategy="steps",
            save_strategy="steps",
            eval_steps=200,
            save_steps=300,
            output_dir=run.output_dir,
            save_total_limit=3,
            load_best_model_at_end=True,
        ),
        data_collator=HaikuCollator(tokenizer),
    )
    trainer.train()
    model.save_pretrained(run.output_dir)


if __name__ == "__main__":
    main()
