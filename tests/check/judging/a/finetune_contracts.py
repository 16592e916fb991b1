"""
Full fine-tuning of a 1B model on 6,000 annotated contract clauses.

    python finetune_contracts.py --output_dir contracts-1b --data clauses.jsonl

clauses.jsonl has exactly 6,000 lines: {"clause": ..., "summary": ...}
One GPU (A100 80GB).
"""
from dataclasses import dataclass, field
from typing import Optional

import torch
from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
)

IGNORE = -100


@dataclass
class ContractsTrainingArguments(TrainingArguments):
    # our defaults, everything can be changed on the command line
    learning_rate: float = field(default=1e-5)
    num_train_epochs: float = field(default=3.0)
    per_device_train_batch_size: int = field(default=8)
    per_device_eval_batch_size: int = field(default=8)
    gradient_accumulation_steps: int = field(default=8)
    warmup_steps: float = field(default=1000)
    lr_scheduler_type: str = field(default="cosine")
    weight_decay: float = field(default=0.0)
    bf16: bool = field(default=True)
    gradient_checkpointing: Optional[bool] = field(default=True)
    logging_steps: float = field(default=10)
    eval_strategy: str = field(default="steps")
    eval_steps: Optional[float] = field(default=2000)
    save_strategy: str = field(default="epoch")
    save_total_limit: Optional[int] = field(default=2)


@dataclass
class DataArguments:
    data: str = field(default="clauses.jsonl")
    model_name: str = field(default="unsloth/Llama-3.2-1B")
    max_len: int = field(default=2048)
    n_eval: int = field(default=300)


def encode(tokenizer, max_len):
    def fn(row):
        head = tokenizer(f"Clause:\n{row['clause']}\n\nIn plain words:\n")["input_ids"]
        tail = tokenizer(row["summary"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        ids = (head + tail)[:max_len]
        labels = ([IGNORE] * len(head) + tail)[:max_len]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}

    return fn


def main():
    parser = HfArgumentParser((ContractsTrainingArguments, DataArguments))
    training_args, data_args = parser.parse_args_into_dataclasses()

    tokenizer = AutoTokenizer.from_pretrained(data_args.model_name)
    if tokenizer.pad_token is None:
        # labels are padded with -100, so the pad token is never learnt
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(data_args.model_name, torch_dtype=torch.float32)
    model.config.use_cache = False

    ds = load_dataset("json", data_files=data_args.data, split="train")
    ds = ds.map(encode(tokenizer, data_args.max_len), remove_columns=ds.column_names)
    ds = ds.train_test_split(test_size=data_args.n_eval, seed=training_args.seed)

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=ds["train"],
        eval_dataset=ds["test"],
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=None, padding=True, label_pad_token_id=IGNORE),
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model()


if __name__ == "__main__":
    main()
