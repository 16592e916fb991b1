#!/usr/bin/env bash
# Continue GPT-2 medium on wikitext-103, 4 cards.
set -euo pipefail

python -m venv .venv && source .venv/bin/activate
pip install -q "transformers==4.46.3" "accelerate==1.1.1" "datasets==3.1.0" evaluate scikit-learn tensorboard
[ -d transformers ] || git clone --depth 1 -b v4.46.3 https://github.com/huggingface/transformers

NGPU=${NGPU:-4}
BS=8
ACC=4                      # 4 x 8 x 4 = 128 blocks of 1024 tokens per step
OUT=/scratch/$USER/gpt2m-wt103

torchrun --standalone --nproc_per_node "$NGPU" \
    transformers/examples/pytorch/language-modeling/run_clm.py \
    --model_name_or_path openai-community/gpt2-medium \
    --dataset_name Salesforce/wikitext --dataset_config_name wikitext-103-raw-v1 \
    --do_train --do_eval \
    --block_size 1024 \
    --per_device_train_batch_size $BS \
    --per_device_eval_batch_size $BS \
    --gradient_accumulation_steps $ACC \
    --gradient_checkpointing True \
    --learning_rate 5e-5 \
    --warmup_ratio 0.03 \
    --lr_scheduler_type cosine \
    --weight_decay 0.1 \
    --num_train_epochs 2 \
    --bf16 True \
    --eval_strategy steps --eval_steps 200 \
    --save_strategy steps --save_steps 200 --save_total_limit 3 \
    --logging_steps 20 \
    --logging_dir "$OUT/tb" --report_to tensorboard \
    --ddp_find_unused_parameters False \
    --seed 17 \
    --overwrite_output_dir \
    --output_dir "$OUT" 2>&1 | tee "train-$(date +%F).log"
