"""Rules about adapters and quantized models."""

from collections.abc import Iterator

from hpkit.preflight.forms import LEAVE_OUT
from hpkit.preflight.libraries import version_in_force
from hpkit.preflight.plan import Plan
from hpkit.preflight.register import Finding, rule


@rule(
    "quantized-without-adapter",
    "quantized",
    notebook="09",
    example="""\
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

quantized = BitsAndBytesConfig(load_in_4bit=True)
model = AutoModelForCausalLM.from_pretrained("org/m", quantization_config=quantized)
trainer = Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows)
""",
)
def quantized_without_adapter(plan: Plan) -> Iterator[Finding]:
    """A model in 4 or 8 bits cannot be trained itself.

    Its weights are whole numbers without gradients. What can be trained is an adapter on top of
    them, and without one transformers refuses the model.
    """
    if plan.trains_adapter:
        return
    changes = {}
    advice = "put an adapter on it (peft.LoraConfig), or load it without quantization"
    if plan.ours:
        changes = {"lora_r": 16}
        advice = "or leave load_in_4bit out"
    yield Finding(
        severity="error",
        argument="quantized",
        message=(
            f"the model is loaded in {plan.written.around.quantized}, and there are 0 adapters: "
            "transformers refuses to train the quantized weights"
        ),
        changes=changes,
        advice=advice,
        evidence={"adapters": 0},
    )


@rule(
    "adapter-not-applied",
    "idle_adapter",
    notebook="12",
    example="""\
from peft import LoraConfig
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

lora = LoraConfig(r=16)
model = AutoModelForCausalLM.from_pretrained("org/m")
trainer = Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows)
""",
)
def adapter_not_applied(plan: Plan) -> Iterator[Finding]:
    """An adapter is configured, and no model gets it.

    A LoraConfig alone changes nothing: the run is a full fine-tune, with its memory, at a rate that
    was meant for an adapter.
    """
    what = plan.written.around.idle_adapter
    message = f"{what} is made, and 0 models get it: the run trains all weights"
    changes = {}
    advice = "call peft.get_peft_model(model, config), or pass peft_config to a trainer of TRL"
    if plan.written.tool:
        message = f"{what} is set, and use_peft is not: 0 adapters, the run trains all weights"
        changes = {"use_peft": True}
        advice = ""
    yield Finding(
        severity="error",
        argument="idle_adapter",
        message=message,
        changes=changes,
        advice=advice,
        evidence={"models": 0},
    )


#: The largest usual alpha / r; 1 and 2 are most.
LARGEST_SCALE = 16


@rule(
    "adapter-scale",
    "adapter_scale",
    notebook="12",
    example="""\
base_model: org/m
datasets: [{path: org/d, type: alpaca}]
micro_batch_size: 2
num_epochs: 1
adapter: lora
lora_r: 8
lora_alpha: 512
""",
)
def adapter_scale(plan: Plan) -> Iterator[Finding]:
    """An adapter's output is multiplied by far more than usual.

    What LoRA adds to a layer is alpha / r times the product of its two matrices, and with
    use_rslora alpha / sqrt(r) times. Most runs have 1 or 2, of rsLoRA up to 16; a larger factor is
    a larger learning rate under another name. An alpha meant for plain LoRA becomes one where
    use_rslora is switched on.
    """
    around = plan.written.around
    scale = around.adapter_scale
    if scale <= LARGEST_SCALE:
        return
    how = "lora_alpha / r"
    advice = "take an alpha of r, or of twice r"
    if around.by_root:
        how = "lora_alpha / sqrt(r)"
        advice = (
            "with use_rslora take an alpha of sqrt(r) to 2 sqrt(r), or of what the paper has, 16"
        )
    yield Finding(
        severity="warning",
        argument="adapter_scale",
        message=f"{how} is {scale:g}: what the adapter adds is multiplied by it",
        advice=advice,
        evidence={"scale": scale},
    )


@rule(
    "adapter-rank",
    "adapter_rank",
    notebook="12",
    example="""\
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("org/m")
model = get_peft_model(model, LoraConfig(r=0, lora_alpha=16))
trainer = Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows)
""",
)
def adapter_rank(plan: Plan) -> Iterator[Finding]:
    """An adapter's two matrices have no column, and no row.

    The rank is the width of both, and 0 of them hold nothing: peft stops with a ValueError.
    """
    rank = plan.written.around.adapter_rank
    if rank <= 0:
        yield Finding(
            severity="error",
            argument="adapter_rank",
            message=f"r is {rank}, and the matrices are r wide: peft stops with a ValueError",
            advice="take an r of 8, 16 or 32",
            evidence={"rank": rank},
        )


@rule(
    "reference-not-synchronised",
    "adapter",
    notebook="12",
    example="""\
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

args = DPOConfig("out", sync_ref_model=True)
trainer = DPOTrainer(model="org/m", args=args, train_dataset=rows, peft_config=LoraConfig())
""",
)
def reference_not_synchronised(plan: Plan) -> Iterator[Finding]:
    """A reference model is to follow, and with an adapter there is none.

    DPO compares with the model as it was. With an adapter that is the same model with the adapter
    switched off, and TRL refuses to synchronise what is no second model.
    """
    if plan.written.origin == "trl" and plan.value("sync_ref_model") is True:
        yield Finding(
            severity="error",
            argument="sync_ref_model",
            message="sync_ref_model with an adapter, where there are 0 reference models: TRL stops",
            changes={"sync_ref_model": LEAVE_OUT},
            evidence={"models": 0},
        )


@rule(
    "bits-argument-gone",
    "bits_argument",
    notebook="09",
    example="""\
from transformers import AutoModelForCausalLM, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("org/m", load_in_8bit=True)
args = TrainingArguments("out")
""",
)
def bits_argument_gone(plan: Plan) -> Iterator[Finding]:
    """from_pretrained no longer takes load_in_4bit and load_in_8bit.

    Since transformers 5 both belong to a BitsAndBytesConfig; given to from_pretrained itself they
    reach the model's class, which does not know them.
    """
    written = plan.written
    version = version_in_force("transformers", written.pins)
    if version.number < (5,) or written.unsloth:
        return
    bits = written.around.bits_argument
    yield Finding(
        severity="error",
        argument="bits_argument",
        last=("transformers", version_in_force("transformers", {"transformers": "<5"}).text),
        message=f"from_pretrained of transformers {version.text} takes no {bits}: a TypeError",
        advice=f"give it quantization_config=BitsAndBytesConfig({bits}=True)",
        evidence={"version": version.text},
    )
