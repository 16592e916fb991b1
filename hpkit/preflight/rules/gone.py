"""Rules about names that nobody reads, and imports that are gone."""

from collections.abc import Iterator

from hpkit.errors import nearest
from hpkit.preflight.arguments import (
    SUCCESSORS,
)
from hpkit.preflight.libraries import (
    last_import,
    last_with,
    version_in_force,
)
from hpkit.preflight.plan import Plan
from hpkit.preflight.refusals import JUDGED
from hpkit.preflight.register import Finding, rule
from hpkit.preflight.rules.names import MISSPELT, with_its_option


@rule(
    "unread-key",
    notebook="12",
    example="""\
base_model: org/m
datasets: [{path: org/d, type: alpaca}]
micro_batch_size: 2
num_epochs: 1
gradient_acumulation_steps: 8
""",
)
def unread_key(plan: Plan) -> Iterator[Finding]:
    """A key that the tool does not know, and passes over without a word.

    axolotl ignores what its schema lacks. A misspelt word, or transformers' name for something that
    axolotl calls otherwise, leaves the default in place.
    """
    written = plan.written
    if written.origin in JUDGED or not written.tool:
        return
    words = [written.form.word(argument) for argument in plan.named]
    unknown = [word for word in words if word not in written.fields]
    for argument in (*written.foreign_words, *unknown):
        meant = written.form.names.get(argument) or nearest(argument, written.fields, MISSPELT)
        if meant is None:
            continue  # a plugin may read it
        yield Finding(
            severity="error",
            argument=argument,
            message=f"{written.tool} has no key {argument} and reads none: it does nothing",
            advice=f"write {meant}",
            evidence={"meant": meant},
        )


@rule(
    "gone-import",
    "gone_imports",
    notebook="12",
    example="""\
from trl import ORPOConfig, ORPOTrainer

args = ORPOConfig("out", max_steps=500)
""",
)
def gone_import(plan: Plan) -> Iterator[Finding]:
    """A name that the library no longer has.

    TRL 0.29 and 1 dropped whole methods and helpers, or moved them to trl.experimental, and
    transformers its own AdamW: the import fails, and with it the script.
    """
    gone = plan.written.around.gone_imports
    # What else is imported from a module that is gone, and until when it was there, nobody knows.
    from_modules = {package for package, name, _ in gone if "." in name}
    for package, name, works in gone:
        older = f"an older {package} ({works} or before)"
        if package in from_modules:
            older = f"the {package} that it was written with"
        last = last_import(package, name)
        version = version_in_force(package, plan.written.pins)
        yield Finding(
            severity="error",
            argument=name,
            last=(package, last),
            message=(
                f"{name} cannot be imported from {package} {version.text} ({last} was the last): "
                "the script stops there"
            ),
            advice=IN_PLACE_OF_IMPORTS.get(name, f"install {older}, or do without it"),
            evidence={"last": last},
        )


#: What to write in place of an import that is gone; methods of TRL's that live on follow.
IN_PLACE_OF_IMPORTS = {
    "AdamW": "import AdamW from torch.optim",
    "AutoModelWithLMHead": "import AutoModelForCausalLM, AutoModelForMaskedLM or "
    "AutoModelForSeq2SeqLM",
    "AutoModelForVision2Seq": "import AutoModelForImageTextToText",
    "setup_chat_format": "load a tokenizer with a chat template, or use trl.clone_chat_template",
    "DataCollatorForCompletionOnlyLM": "give rows with prompt and completion, or "
    "SFTConfig(assistant_only_loss=True)",
    "get_kbit_device_map": 'leave it out, or write device_map="auto"',
    "set_seed": "import set_seed from transformers",
    "trl.commands.cli_utils": "import TrlParser from trl",
}
#: Methods that TRL 1.16 keeps as experiments.
EXPERIMENTS = {"ORPO": "orpo", "CPO": "cpo", "GKD": "gkd", "OnlineDPO": "online_dpo"}
for _method, _module in EXPERIMENTS.items():
    for _kind in ("Config", "Trainer"):
        IN_PLACE_OF_IMPORTS[_method + _kind] = (
            f"import {_method + _kind} from trl.experimental.{_module}"
        )


@rule(
    "unread-field",
    "unread_fields",
    notebook="02",
    example="""\
from dataclasses import dataclass

import transformers


@dataclass
class Settings(transformers.TrainingArguments):
    warmup_ratio: float = 0.03


(settings,) = transformers.HfArgumentParser(Settings).parse_args_into_dataclasses()
""",
)
def unread_field(plan: Plan) -> Iterator[Finding]:
    """A field of one's own subclass that transformers read once, and that nobody reads today.

    Giving TrainingArguments' own field another default was the usual way to set it. Where the
    library has dropped the field, the line makes a new one, no error comes, and nothing happens: a
    warmup_ratio of 0.03 is no warmup.
    """
    version = version_in_force("transformers", plan.written.pins)
    for name in plan.written.around.unread_fields:
        successor = SUCCESSORS[name]
        # Set after the call it is no argument of it: what it was set to is not told here.
        is_set_later = name not in plan.settings
        changes = {} if is_set_later else successor.changes(name, plan.settings[name])
        instead = f"set {successor.argument}" if successor.argument else "leave it out"
        is_off = not is_set_later and not plan.settings[name]
        if is_off and successor.argument:  # a command line may turn it on
            changes = {}
            instead = with_its_option(plan.written, name, successor)
        yield Finding(
            severity="warning",
            argument=name,
            last=("transformers", _last(name)),
            message=(
                f"{name} of {plan.written.name} is a name of one's own: transformers "
                f"{version.text} has none and reads none ({_last(name)} was the last), so it does "
                "nothing"
            ),
            changes=changes,
            advice=successor.words if changes else instead,
            evidence={"last": _last(name)},
        )


def _last(name: str) -> str | None:
    return last_with("transformers", "TrainingArguments", name)
