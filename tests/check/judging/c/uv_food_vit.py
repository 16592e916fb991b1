# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = [
#     "transformers==4.48.3",
#     "accelerate==1.3.0",
#     "datasets==3.2.0",
#     "torch==2.5.1",
#     "torchvision==0.20.1",
#     "scikit-learn",
# ]
# ///
"""uv run uv_food_vit.py"""
import numpy as np
from datasets import load_dataset
from sklearn.metrics import accuracy_score
from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, RandomResizedCrop, Resize, ToTensor
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments
from transformers import DefaultDataCollator

CKPT = "google/vit-base-patch16-224-in21k"

food = load_dataset("ethz/food101")
names = food["train"].features["label"].names
processor = AutoImageProcessor.from_pretrained(CKPT)
size = (processor.size["height"], processor.size["width"])
norm = Normalize(mean=processor.image_mean, std=processor.image_std)
train_tf = Compose([RandomResizedCrop(size), RandomHorizontalFlip(), ToTensor(), norm])
eval_tf = Compose([Resize(size), ToTensor(), norm])


def with_tf(tf):
    def apply(rows):
        return {"pixel_values": [tf(im.convert("RGB")) for im in rows["image"]], "label": rows["label"]}

    return apply


train_ds = food["train"].with_transform(with_tf(train_tf))
eval_ds = food["validation"].with_transform(with_tf(eval_tf))

model = AutoModelForImageClassification.from_pretrained(
    CKPT, num_labels=len(names), id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}
)

# 75 750 pictures / 64 = 1184 steps an epoch
args = TrainingArguments(
    output_dir="vit-food101",
    remove_unused_columns=False,
    per_device_train_batch_size=64,
    per_device_eval_batch_size=128,
    learning_rate=5e-5,
    num_train_epochs=4,
    warmup_ratio=0.1,
    fp16=True,
    dataloader_num_workers=8,
    eval_strategy="steps",
    eval_steps=400,
    save_strategy="steps",
    save_steps=400,
    save_total_limit=2,
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    logging_steps=50,
    report_to="none",
)


def compute_metrics(p):
    return {"accuracy": accuracy_score(p.label_ids, np.argmax(p.predictions, axis=1))}


trainer = Trainer(
    model=model,
    args=args,
    train_dataset=train_ds,
    eval_dataset=eval_ds,
    data_collator=DefaultDataCollator(),
    processing_class=processor,
    compute_metrics=compute_metrics,
)
trainer.train()
trainer.save_model()
