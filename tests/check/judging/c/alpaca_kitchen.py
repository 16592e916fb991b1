#    Supervised fine-tuning on cooking instructions, after the well-known recipe.
#    All weights are trained; one 80 GB card is plenty for the 1.4B model.
import copy
from dataclasses import dataclass, field
from typing import Dict, List, Optional

import json
import torch
import transformers
from torch.utils.data import Dataset
from transformers import Trainer

IGNORE_INDEX = -100
PAD = "<|kitchen_pad|>"

TEMPLATE = "You are a patient cook.\n\nQuestion: {question}\n{extra}Answer:"


@dataclass
class ModelArguments:
    model_name_or_path: Optional[str] = field(default="EleutherAI/pythia-1.4b")


@dataclass
class DataArguments:
    data_path: str = field(default="kitchen_52k.json", metadata={"help": "Path to the training data."})


@dataclass
class TrainingArguments(transformers.TrainingArguments):
    cache_dir: Optional[str] = field(default=None)
    model_max_length: int = field(default=640, metadata={"help": "Longer sequences are cut on the right."})
    output_dir: Optional[str] = field(default="out/kitchen")
    num_train_epochs: float = field(default=3.0)
    per_device_train_batch_size: int = field(default=8)
    gradient_accumulation_steps: int = field(default=16)
    learning_rate: float = field(default=2e-5)
    weight_decay: float = field(default=0.0)
    warmup_steps: float = field(default=0.03)
    lr_scheduler_type: str = field(default="cosine")
    bf16: bool = field(default=True)
    logging_steps: float = field(default=1)
    save_strategy: str = field(default="epoch")
    save_total_limit: Optional[int] = field(default=1)


def smart_resize(tokenizer, model, special: Dict[str, str]):
    """Resize tokenizer and embedding; new rows start from the mean of the old ones."""
    n_new = tokenizer.add_special_tokens(special)
    model.resize_token_embeddings(len(tokenizer))
    if n_new > 0:
        for emb in (model.get_input_embeddings(), model.get_output_embeddings()):
            w = emb.weight.data
            w[-n_new:] = w[:-n_new].mean(dim=0, keepdim=True)


class KitchenDataset(Dataset):
    def __init__(self, path: str, tokenizer):
        super().__init__()
        with open(path) as f:
            records = json.load(f)
        self.input_ids: List[torch.Tensor] = []
        self.labels: List[torch.Tensor] = []
        for r in records:
            extra = f"At hand: {r['pantry']}\n" if r.get("pantry") else ""
            source = TEMPLATE.format(question=r["question"], extra=extra)
            full = source + " " + r["answer"] + tokenizer.eos_token
            ids = tokenizer(full, truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt").input_ids[0]
            n_source = len(tokenizer(source, truncation=True, max_length=tokenizer.model_max_length).input_ids)
            lab = copy.deepcopy(ids)
            lab[:n_source] = IGNORE_INDEX
            self.input_ids.append(ids)
            self.labels.append(lab)

    def __len__(self):
        return len(self.input_ids)

    def __getitem__(self, i):
        return dict(input_ids=self.input_ids[i], labels=self.labels[i])


@dataclass
class Collator:
    tokenizer: transformers.PreTrainedTokenizerBase

    def __call__(self, instances):
        input_ids = torch.nn.utils.rnn.pad_sequence(
            [x["input_ids"] for x in instances], batch_first=True, padding_value=self.tokenizer.pad_token_id
        )
        labels = torch.nn.utils.rnn.pad_sequence(
            [x["labels"] for x in instances], batch_first=True, padding_value=IGNORE_INDEX
        )
        return dict(input_ids=input_ids, labels=labels, attention_mask=input_ids.ne(self.tokenizer.pad_token_id))


def train():
    parser = transformers.HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()

    model = transformers.AutoModelForCausalLM.from_pretrained(
        model_args.model_name_or_path,
        cache_dir=training_args.cache_dir,
        dtype=torch.float32,  # master weights; autocast does the rest
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        model_args.model_name_or_path,
        cache_dir=training_args.cache_dir,
        model_max_length=training_args.model_max_length,
        padding_side="right",
    )
    if tokenizer.pad_token is None:
        smart_resize(tokenizer, model, {"pad_token": PAD})

    train_dataset = KitchenDataset(data_args.data_path, tokenizer)
    trainer = Trainer(
        model=model,
        processing_class=tokenizer,
        args=training_args,
        train_dataset=train_dataset,
        data_collator=Collator(tokenizer),
    )
    trainer.train()
    trainer.save_state()
    trainer.save_model(training_args.output_dir)


if __name__ == "__main__":
    train()
