"""QLoRA run for the notary drafting assistant.

    python qlora_notary.py --train_file deeds.jsonl --output_dir runs/deeds
"""
import logging
from dataclasses import dataclass, field
from typing import Dict, Optional, Sequence

import torch
import transformers
from accelerate import PartialState
from datasets import load_dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, Trainer, set_seed

log = logging.getLogger("notary")
IGNORE = -100


@dataclass
class ModelArguments:
    base_model: str = field(default="mistralai/Mistral-7B-v0.3")
    bits: int = field(default=4, metadata={"help": "4 or 8"})
    quant_type: str = field(default="nf4")
    lora_r: int = field(default=32)
    lora_alpha: int = field(default=32)
    lora_dropout: float = field(default=0.05)


@dataclass
class DataArguments:
    train_file: str = field(default="deeds.jsonl")
    source_max_len: int = field(default=768)
    target_max_len: int = field(default=768)


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    output_dir: Optional[str] = field(default="./runs/deeds")
    optim: str = field(default="paged_adamw_32bit")
    per_device_train_batch_size: int = field(default=4)
    gradient_accumulation_steps: int = field(default=4)
    max_steps: int = field(default=1200)
    learning_rate: float = field(default=2e-4)
    lr_scheduler_type: str = field(default="cosine")
    warmup_steps: float = field(default=0.03)
    max_grad_norm: float = field(default=0.3)
    bf16: bool = field(default=True)
    activation_checkpointing: Optional[bool] = field(default=True)
    remove_unused_columns: bool = field(default=False, metadata={"help": "the collator wants the raw text columns"})
    logging_steps: float = field(default=10)
    save_steps: float = field(default=200)
    save_total_limit: Optional[int] = field(default=4)


@dataclass
class DeedCollator:
    tokenizer: transformers.PreTrainedTokenizerBase
    source_max_len: int
    target_max_len: int

    def __call__(self, rows: Sequence[Dict]) -> Dict[str, torch.Tensor]:
        ids, labels = [], []
        for row in rows:
            src = self.tokenizer(
                f"{self.tokenizer.bos_token}### Facts\n{row['facts']}\n### Deed\n",
                max_length=self.source_max_len, truncation=True, add_special_tokens=False,
            )["input_ids"]
            # leave room for the end mark
            tgt = self.tokenizer(
                row["deed"], max_length=self.target_max_len - 1, truncation=True, add_special_tokens=False
            )["input_ids"] + [self.tokenizer.eos_token_id]
            ids.append(torch.tensor(src + tgt))
            labels.append(torch.tensor([IGNORE] * len(src) + tgt))
        input_ids = pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        mask = pad_sequence([torch.ones_like(x) for x in ids], batch_first=True, padding_value=0)
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE),
        }


def get_model(margs: ModelArguments):
    bnb = BitsAndBytesConfig(
        load_in_4bit=margs.bits == 4,
        load_in_8bit=margs.bits == 8,
        bnb_4bit_quant_type=margs.quant_type,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        margs.base_model,
        quantization_config=bnb,
        dtype=torch.bfloat16,
        device_map={"": PartialState().process_index},
    )
    # checkpointing is switched on by the Trainer below
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    lora = LoraConfig(
        r=margs.lora_r,
        lora_alpha=margs.lora_alpha,
        lora_dropout=margs.lora_dropout,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def main():
    parser = transformers.HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    margs, dargs, targs = parser.parse_args_into_dataclasses()
    logging.basicConfig(level=logging.INFO)
    set_seed(targs.seed)

    tokenizer = AutoTokenizer.from_pretrained(margs.base_model, padding_side="right")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token

    model = get_model(margs)
    model.print_trainable_parameters()
    data = load_dataset("json", data_files=dargs.train_file, split="train").shuffle(seed=targs.seed)
    log.info("%d deeds", len(data))

    trainer = Trainer(
        model=model,
        args=targs,
        train_dataset=data,
        data_collator=DeedCollator(tokenizer, dargs.source_max_len, dargs.target_max_len),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_state()
    trainer.save_model()


if __name__ == "__main__":
    main()
