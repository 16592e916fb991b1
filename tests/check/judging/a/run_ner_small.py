"""Token classification, a trimmed run_ner.py.

python run_ner_small.py --output_dir ner-out --learning_rate 3e-5 --num_train_epochs 3 \
    --per_device_train_batch_size 16 --eval_strategy epoch --save_strategy epoch
or
python run_ner_small.py ner.json
"""
import logging
import os
import sys
from dataclasses import dataclass, field

import evaluate
import numpy as np
from datasets import load_dataset
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)

logger = logging.getLogger(__name__)


@dataclass
class ModelArguments:
    model_name_or_path: str = field(default="google-bert/bert-base-cased", metadata={"help": "Hub id or path."})
    cache_dir: str | None = field(default=None)


@dataclass
class DataArguments:
    dataset_name: str = field(default="eriktks/conll2003")
    max_seq_length: int = field(default=128, metadata={"help": "Longer sentences are cut."})
    label_all_tokens: bool = field(default=False)


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_args, data_args, training_args = parser.parse_json_file(os.path.abspath(sys.argv[1]))
    else:
        model_args, data_args, training_args = parser.parse_args_into_dataclasses()

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    set_seed(training_args.seed)

    raw = load_dataset(data_args.dataset_name, revision="refs/convert/parquet", cache_dir=model_args.cache_dir)
    label_list = raw["train"].features["ner_tags"].feature.names

    config = AutoConfig.from_pretrained(
        model_args.model_name_or_path,
        num_labels=len(label_list),
        id2label=dict(enumerate(label_list)),
        label2id={l: i for i, l in enumerate(label_list)},
    )
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path, use_fast=True)
    model = AutoModelForTokenClassification.from_pretrained(model_args.model_name_or_path, config=config)

    def tokenize_and_align(examples):
        enc = tokenizer(
            examples["tokens"],
            truncation=True,
            max_length=data_args.max_seq_length,
            is_split_into_words=True,
        )
        enc["labels"] = []
        for i, tags in enumerate(examples["ner_tags"]):
            last, row = None, []
            for w in enc.word_ids(batch_index=i):
                if w is None:
                    row.append(-100)
                elif w != last:
                    row.append(tags[w])
                else:
                    row.append(tags[w] if data_args.label_all_tokens else -100)
                last = w
            enc["labels"].append(row)
        return enc

    with training_args.main_process_first(desc="tokenize"):
        ds = raw.map(tokenize_and_align, batched=True, remove_columns=raw["train"].column_names)

    seqeval = evaluate.load("seqeval")

    def compute_metrics(p):
        pred = np.argmax(p.predictions, axis=2)
        true_p = [[label_list[a] for a, b in zip(x, y) if b != -100] for x, y in zip(pred, p.label_ids)]
        true_l = [[label_list[b] for b in y if b != -100] for y in p.label_ids]
        r = seqeval.compute(predictions=true_p, references=true_l)
        return {k: r[f"overall_{k}"] for k in ("precision", "recall", "f1", "accuracy")}

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=ds["train"],
        eval_dataset=ds["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(
            tokenizer, pad_to_multiple_of=8 if training_args.fp16 else None
        ),
        compute_metrics=compute_metrics,
    )

    result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model()
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()

    metrics = trainer.evaluate(ds["test"], metric_key_prefix="test")
    trainer.log_metrics("test", metrics)
    trainer.save_metrics("test", metrics)


if __name__ == "__main__":
    main()
