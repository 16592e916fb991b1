"""Bi-encoder for the shop search: query -> product title."""
from datasets import load_dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

model = SentenceTransformer("intfloat/multilingual-e5-small")

# columns: query, title
clicks = load_dataset("parquet", data_files="clicks_2024.parquet", split="train").shuffle(seed=3)
clicks = clicks.select_columns(["query", "title"])
dev = clicks.select(range(2_000))
train = clicks.select(range(2_000, 202_000))

loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=64)

evaluator = InformationRetrievalEvaluator(
    queries={f"q{i}": "query: " + r["query"] for i, r in enumerate(dev)},
    corpus={f"d{i}": "passage: " + r["title"] for i, r in enumerate(dev)},
    relevant_docs={f"q{i}": {f"d{i}"} for i in range(len(dev))},
    name="shop-dev",
)

# 200k pairs / 512 = 390 steps an epoch
args = SentenceTransformerTrainingArguments(
    output_dir="models/shop-e5-small",
    num_train_epochs=2,
    per_device_train_batch_size=512,
    per_device_eval_batch_size=512,
    learning_rate=5e-5,
    warmup_steps=0.1,
    bf16=True,
    batch_sampler="no_duplicates",
    prompts={"query": "query: ", "title": "passage: "},
    eval_strategy="steps",
    eval_steps=100,
    save_strategy="steps",
    save_steps=100,
    save_total_limit=2,
    logging_steps=20,
    run_name="shop-e5-small",
)

trainer = SentenceTransformerTrainer(
    model=model,
    args=args,
    train_dataset=train,
    eval_dataset=dev,
    loss=loss,
    evaluator=evaluator,
)
trainer.train()
evaluator(model)
model.save_pretrained("models/shop-e5-small/final")
