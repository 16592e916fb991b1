"""Rules about adapters that do not learn what they are to learn, and that lose what they learnt."""

from collections.abc import Iterator

from hpkit.preflight.plan import Plan
from hpkit.preflight.register import Finding, rule


@rule(
    "adapter-frozen",
    "frozen_adapter",
    notebook="12",
    example="""\
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("org/m")
model = PeftModel.from_pretrained(model, "org/adapter")
trainer = Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows)
trainer.train()
""",
)
def adapter_frozen(plan: Plan) -> Iterator[Finding]:
    """A loaded adapter is to be trained further, and it was loaded to be read.

    PeftModel.from_pretrained switches the gradients of all weights off, unless it is told
    is_trainable=True: an adapter is mostly loaded to generate with. The first backward pass is a
    RuntimeError, because no number of the model needs a gradient.
    """
    yield Finding(
        severity="error",
        argument="frozen_adapter",
        message=(
            f"{plan.written.around.frozen_adapter} loads an adapter whose weights have 0 "
            "gradients, and it is to be trained: the first update is a RuntimeError"
        ),
        advice="load it with is_trainable=True",
        evidence={"gradients": 0},
    )


@rule(
    "new-tokens-frozen",
    "untrained_tokens",
    notebook="12",
    example="""\
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

tok = AutoTokenizer.from_pretrained("org/m")
tok.add_tokens(["<tool>", "</tool>"])
model = AutoModelForCausalLM.from_pretrained("org/m")
model.resize_token_embeddings(len(tok))
model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear"))
trainer = Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows)
""",
)
def new_tokens_frozen(plan: Plan) -> Iterator[Finding]:
    """Tokens are added, and an adapter trains all but their rows.

    A new token's row of the embedding is drawn at random, and LoRA freezes the whole embedding, so
    that the row stays as it was drawn. modules_to_save trains embedding and output layer whole,
    trainable_token_indices the new rows alone. axolotl refuses a list of tokens without the former.
    """
    written = plan.written
    what = written.around.untrained_tokens
    advice = (
        'give the adapter modules_to_save=["embed_tokens", "lm_head"], by the names that the model '
        "has for them, or trainable_token_indices with the new tokens' numbers"
    )
    message = (
        f"{what} adds tokens, and the adapter trains 0 rows of the embedding: they stay random"
    )
    if written.tool:
        advice = "set lora_modules_to_save: [embed_tokens, lm_head], by the model's names for them"
    is_refused = written.tool and what == "tokens"
    if is_refused:
        message = (
            f"tokens are added, and the adapter trains 0 rows of the embedding: {written.tool} "
            "stops with a ValueError"
        )
    yield Finding(
        severity="error" if is_refused else "warning",
        argument="untrained_tokens",
        message=message,
        advice=advice,
        evidence={"rows": 0},
    )


@rule(
    "merged-into-bits",
    "merged_bits",
    notebook="12",
    example="""\
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

four = BitsAndBytesConfig(load_in_4bit=True)
model = AutoModelForCausalLM.from_pretrained("org/m", quantization_config=four)
model = get_peft_model(model, LoraConfig(r=16))
trainer = Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows)
trainer.train()
merged = model.merge_and_unload()
""",
)
def merged_into_bits(plan: Plan) -> Iterator[Finding]:
    """An adapter is merged into a model of 4 or 8 bits.

    The sum of both is rounded to so few bits again, and an adapter's part is often smaller than the
    step from one of 16 numbers to the next: what is merged answers otherwise than what was trained.
    peft warns of it.
    """
    bits = plan.written.around.merged_bits
    yield Finding(
        severity="warning",
        argument="merged_bits",
        message=f"the adapter is merged into a model of {bits}, and the sum is rounded to {bits}",
        advice="load the model in bfloat16, unquantized, with the adapter on it, and merge there",
        evidence={"bits": int(bits[0])},
    )
