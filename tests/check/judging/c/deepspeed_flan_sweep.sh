#!/bin/bash
#SBATCH --job-name=flan-minutes
#SBATCH --gres=gpu:4
#SBATCH --time=20:00:00

# Council minutes -> summary, flan-t5-large.  One run for each learning rate.
pip install --upgrade transformers datasets evaluate rouge_score nltk accelerate deepspeed

MODEL=google/flan-t5-large
DATA=$HOME/data/minutes
SCRIPT=$HOME/src/transformers/examples/pytorch/summarization/run_summarization.py   # main branch

for LR in 5e-5 1e-4 3e-4; do
  OUT=$HOME/runs/minutes-lr$LR
  echo "=== $LR -> $OUT"
  deepspeed --num_gpus=4 --master_port 29511 "$SCRIPT" \
    --deepspeed conf/zero2.json \
    --model_name_or_path $MODEL \
    --train_file $DATA/train.jsonl \
    --validation_file $DATA/dev.jsonl \
    --text_column minutes --summary_column summary \
    --source_prefix "summarize: " \
    --max_source_length 1024 --max_target_length 160 \
    --do_train --do_eval \
    --predict_with_generate \
    --per_device_train_batch_size 4 \
    --per_device_eval_batch_size 8 \
    --gradient_accumulation_steps 4 \
    --learning_rate $LR \
    --num_train_epochs 4 \
    --evaluation_strategy epoch \
    --save_strategy epoch \
    --save_total_limit 1 \
    --fp16 \
    --logging_steps 25 \
    --output_dir "$OUT"
done
