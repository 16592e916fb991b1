"""Few-shot routing of helpdesk mails with SetFit (16 mails for each queue)."""
import argparse

from datasets import load_dataset
from setfit import SetFitModel, Trainer, TrainingArguments, sample_dataset

QUEUES = ["billing", "delivery", "login", "returns", "other"]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--csv", default="mails.csv")
    ap.add_argument("--shots", type=int, default=16)
    ap.add_argument("--out", default="models/helpdesk-setfit")
    opts = ap.parse_args()

    mails = load_dataset("csv", data_files=opts.csv, split="train").train_test_split(test_size=0.3, seed=5)
    mails = mails.map(lambda r: {"queue": QUEUES.index(r["queue"])})  # the torch head wants numbers
    few = sample_dataset(mails["train"], label_column="queue", num_samples=opts.shots)

    model = SetFitModel.from_pretrained(
        "sentence-transformers/paraphrase-multilingual-mpnet-base-v2",
        use_differentiable_head=True,
        head_params={"out_features": len(QUEUES)},
        labels=QUEUES,
    )

    args = TrainingArguments(
        output_dir=opts.out,
        batch_size=(16, 8),
        num_epochs=(1, 20),
        body_learning_rate=(2e-5, 5e-6),
        head_learning_rate=2e-3,
        end_to_end=True,
        sampling_strategy="oversampling",
        warmup_proportion=0.1,
        l2_weight=0.05,
        max_length=192,
        use_amp=True,
        seed=5,
        report_to="none",
        save_strategy="no",
    )

    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=few,
        eval_dataset=mails["test"],
        metric="f1",
        metric_kwargs={"average": "macro"},
        column_mapping={"body": "text", "queue": "label"},
    )
    trainer.train()
    print(trainer.evaluate())
    model.save_pretrained(opts.out)


if __name__ == "__main__":
    main()
