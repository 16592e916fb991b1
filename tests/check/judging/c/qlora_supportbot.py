import os
from dataclasses import dataclass, field
from typing import Optional

import torch
import transformers
from datasets import load_dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    Seq2SeqTrainer,
)

IGNORE_INDEX = -100
DEFAULT_PAD_TOKEN = "[PAD]"


@dataclass
class ModelArguments:
    model_name_or_path: Optional[str] = field(default="meta-llama/Llama-2-13b-hf")
    trust_remote_code: Optional[bool] = field(default=False)


@dataclass
class DataArguments:
    dataset: str = field(default="tickets.jsonl", metadata={"help": "jsonl with `ticket` and `reply`"})
    source_max_len: int = field(default=1024)
    target_max_len: int = field(default=384)


@dataclass
class TrainingArguments(transformers.Seq2SeqTrainingArguments):
    cache_dir: Optional[str] = field(default=None)
    lora_r: int = field(default=64, metadata={"help": "Lora R dimension."})
    lora_alpha: float = field(default=16, metadata={"help": "Lora alpha."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Lora dropout."})
    output_dir: Optional[str] = field(default="./output/supportbot")
    optim: str = field(default="paged_adamw_32bit", metadata={"help": "The optimizer to be used"})
    per_device_train_batch_size: int = field(default=2)
    gradient_accumulation_steps: int = field(default=8)
    max_steps: int = field(default=1875, metadata={"help": "How many optimizer update steps to take"})
    weight_decay: float = field(default=0.0)
    learning_rate: float = field(default=2e-4)
    remove_unused_columns: bool = field(default=True)
    max_grad_norm: float = field(default=0.3)
    activation_checkpointing: Optional[bool] = field(default=True)
    lr_scheduler_type: str = field(default="cosine")
    warmup_ratio: float = field(default=0.03, metadata={"help": "Fraction of steps to do a warmup for"})
    logging_steps: float = field(default=10)
    group_by_length: bool = field(default=True, metadata={"help": "Group sequences into batches of same length."})
    bf16: bool = field(default=True)
    save_strategy: str = field(default="steps")
    save_steps: float = field(default=250)
    save_total_limit: Optional[int] = field(default=6)


@dataclass
class TicketCollator:
    pad_token_id: int

    def __call__(self, features):
        ids = [torch.tensor(f["input_ids"]) for f in features]
        labels = [torch.tensor(f["labels"]) for f in features]
        padded = pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id)
        return {
            "input_ids": padded,
            "attention_mask": padded.ne(self.pad_token_id),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE_INDEX),
        }


def get_accelerate_model(model_args, args):
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    model = AutoModelForCausalLM.from_pretrained(
        model_args.model_name_or_path,
        cache_dir=args.cache_dir,
        device_map={"": local_rank},
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_quant_type="nf4",
        ),
        dtype=torch.bfloat16,
        trust_remote_code=model_args.trust_remote_code,
    )
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)

    tokenizer = AutoTokenizer.from_pretrained(
        model_args.model_name_or_path, cache_dir=args.cache_dir, padding_side="right"
    )
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": DEFAULT_PAD_TOKEN})
    model.config.pad_token_id = tokenizer.pad_token_id

    print("adding LoRA modules...")
    model = get_peft_model(
        model,
        LoraConfig(
            r=args.lora_r,
            lora_alpha=args.lora_alpha,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            lora_dropout=args.lora_dropout,
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )
    return model, tokenizer


def make_data(tokenizer, data_args):
    def encode(row):
        src = tokenizer(f"Ticket:\n{row['ticket']}\n\nReply:\n", truncation=True, max_length=data_args.source_max_len)
        tgt = tokenizer(
            row["reply"], truncation=True, max_length=data_args.target_max_len - 1, add_special_tokens=False
        )["input_ids"] + [tokenizer.eos_token_id]
        return {
            "input_ids": src["input_ids"] + tgt,
            "labels": [IGNORE_INDEX] * len(src["input_ids"]) + tgt,
        }

    ds = load_dataset("json", data_files=data_args.dataset, split="train")
    return ds.map(encode, remove_columns=ds.column_names)


def train():
    hfparser = transformers.HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    model_args, data_args, training_args = hfparser.parse_args_into_dataclasses()
    transformers.set_seed(training_args.seed)

    model, tokenizer = get_accelerate_model(model_args, training_args)
    trainer = Seq2SeqTrainer(
        model=model,
        processing_class=tokenizer,
        args=training_args,
        train_dataset=make_data(tokenizer, data_args),
        data_collator=TicketCollator(tokenizer.pad_token_id),
    )
    result = trainer.train()
    trainer.log_metrics("train", result.metrics)
    trainer.save_model()


if __name__ == "__main__":
    train()
