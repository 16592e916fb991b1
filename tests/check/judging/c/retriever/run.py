"""python -m retriever.run --pairs pairs.jsonl --out models/retriever-de"""
import argparse
from pathlib import Path

from .data import HardNegativeDataset, load_pairs
from .modeling import BiEncoder
from .options import TrainingArguments
from .trainer import ContrastiveTrainer


def options_from_cli(ns: argparse.Namespace) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(ns.out),
        epochs=ns.epochs,
        train_batch_size=96,
        learning_rate=1e-5,
        warmup_ratio=0.05,
        temperature=0.02,
        negatives_per_query=5,
        gather_negatives=True,
        query_max_len=48,
        passage_max_len=320,
        evaluation_strategy="epoch",
        overwrite_output_dir=ns.force,
    )


def main(argv=None):
    ap = argparse.ArgumentParser(prog="retriever")
    ap.add_argument("--pairs", type=Path, required=True)
    ap.add_argument("--dev", type=Path)
    ap.add_argument("--encoder", default="deepset/gbert-base")
    ap.add_argument("--epochs", type=int, default=3)
    ap.add_argument("--force", action="store_true")
    ap.add_argument("--out", type=Path, default=Path("models/retriever-de"))
    ns = ap.parse_args(argv)

    opts = options_from_cli(ns)
    encoder = BiEncoder(ns.encoder, pooling="mean", normalize=True)
    trainer = ContrastiveTrainer(
        encoder,
        opts,
        train=HardNegativeDataset(load_pairs(ns.pairs), opts.negatives_per_query),
        dev=load_pairs(ns.dev) if ns.dev else None,
        tokenizer=encoder.tokenizer,
    )
    trainer.fit()
    encoder.save(ns.out)


if __name__ == "__main__":
    main()
