"""Domain-adaptive pretraining of a Dutch encoder on streamed web text."""
import argparse
from dataclasses import asdict, dataclass

from datasets import load_dataset
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)


@dataclass
class Hyper:
    learning_rate: float = 5e-5
    per_device_train_batch_size: int = 32
    per_device_eval_batch_size: int = 64
    gradient_accumulation_steps: int = 4
    num_train_epochs: float = 1
    warmup_steps: int = 500
    weight_decay: float = 0.01


SCHEDULE = {
    "eval_strategy": "steps",
    "eval_steps": 1000,
    "save_strategy": "steps",
    "save_steps": 1000,
    "save_total_limit": 3,
    "logging_steps": 100,
    "load_best_model_at_end": True,
    "metric_for_best_model": "perplexity",
    "greater_is_better": False,
}


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--encoder", default="GroNLP/bert-base-dutch-cased")
    p.add_argument("--corpus", default="allenai/c4")
    p.add_argument("--lang", default="nl")
    p.add_argument("--heldout", default="heldout_nl.txt")
    p.add_argument("--out", default="bert-nl-web")
    p.add_argument("--mlm_prob", type=float, default=0.15)
    p.add_argument("--bf16", action="store_true")
    return p.parse_args()


def main():
    a = get_args()
    tok = AutoTokenizer.from_pretrained(a.encoder)

    def encode(rows):
        return tok(rows["text"], truncation=True, max_length=256, return_special_tokens_mask=True)

    train = load_dataset(a.corpus, a.lang, split="train", streaming=True)
    train = train.shuffle(seed=11, buffer_size=20_000)
    train = train.map(encode, batched=True, remove_columns=["text", "timestamp", "url"])
    held = load_dataset("text", data_files=a.heldout, split="train").map(encode, batched=True, remove_columns=["text"])

    hyper = Hyper()
    args = TrainingArguments(output_dir=a.out, bf16=a.bf16, **asdict(hyper), **SCHEDULE)

    trainer = Trainer(
        model=AutoModelForMaskedLM.from_pretrained(a.encoder),
        args=args,
        train_dataset=train,
        eval_dataset=held,
        data_collator=DataCollatorForLanguageModeling(tok, mlm_probability=a.mlm_prob),
        processing_class=tok,
    )
    trainer.train()
    trainer.save_model(a.out)


if __name__ == "__main__":
    main()
