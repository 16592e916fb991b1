#!/usr/bin/env bash
# usage: REGION=nord ./accelerate_sft_regions.sh
# LoRA adapters for the dialect bots, one for each region
set -e
export WANDB_PROJECT=dialects
export TOKENIZERS_PARALLELISM=false

BASE="Qwen/Qwen2.5-3B-Instruct"
REGION="${REGION:-nord}"
MAX_STEPS=600
WARMUP=1000
LR="2.0e-4"

if [[ "$REGION" == "sued" ]]; then
    MAX_STEPS=900        # more text there
fi

COMMON_ARGS=(
    --model_name_or_path "$BASE"
    --dtype bfloat16
    --use_peft --lora_r 16 --lora_alpha 32 --lora_dropout 0.05
    --lora_target_modules q_proj k_proj v_proj o_proj
)

accelerate launch \
    --multi_gpu --num_processes 2 --mixed_precision bf16 \
    -m trl.scripts.sft \
    "${COMMON_ARGS[@]}" \
    --dataset_name "acme-dialects/$REGION" \
    --max_length 1024 \
    --per_device_train_batch_size 4 \
    --gradient_accumulation_steps 2 \
    --learning_rate "$LR" \
    --lr_scheduler_type cosine \
    --warmup_steps $WARMUP \
    --max_steps $MAX_STEPS \
    --num_train_epochs 3 \
    --logging_steps 10 \
    --save_steps 150 \
    --report_to wandb \
    --run_name "dialect-$REGION" \
    --output_dir "adapters/$REGION"
