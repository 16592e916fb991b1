"""The rule about what a trainer took once, and its config takes today."""

from collections.abc import Iterator

from hpkit.errors import nearest
from hpkit.preflight.arguments import MOVED_TO_CONFIG, TRAINER_SUCCESSORS, TRL_SUCCESSORS
from hpkit.preflight.forms import LEAVE_OUT
from hpkit.preflight.libraries import last_with, names_of, number_of, takes, version_in_force
from hpkit.preflight.plan import Plan
from hpkit.preflight.register import Finding, rule
from hpkit.preflight.rules.names import MISSPELT
from hpkit.preflight.written import ELSEWHERE


@rule(
    "moved-argument",
    notebook="12",
    example="""\
from trl import SFTTrainer

trainer = SFTTrainer(model="org/m", train_dataset=rows, tokenizer=tok, packing=True)
""",
)
def moved_argument(plan: Plan) -> Iterator[Finding]:
    """An argument that trainers took once, and that now belongs to their config.

    Since TRL 0.13 lengths, packing and losses are fields of SFTConfig and its like, and since
    transformers 5 a tokenizer is a trainer's processing_class: the old call is a TypeError. Unsloth
    patches the trainers so that they take the old names again, and there nothing is said.
    """
    written = plan.written
    if not written.is_trainer or written.unsloth or written.origin not in ("transformers", "trl"):
        return
    version = version_in_force(written.origin, written.pins)
    for argument in plan.named:
        if argument in written.fields:
            continue
        # None for a trainer that this version does not have.
        if takes(written.origin, written.name, argument, version) is not False:
            continue
        if argument in TRAINER_SUCCESSORS:
            changes = {}
            advice = f"call it {TRAINER_SUCCESSORS[argument].argument}"
        elif argument in MOVED_TO_CONFIG:
            changes = {argument: LEAVE_OUT}
            advice = _in_config(plan, argument)
        else:
            changes = {}
            near = nearest(argument, names_of(written.origin, written.name), MISSPELT)
            advice = "do without it, or override the method that would use it"
            if near:
                advice = f"write {near} in its place"
        last = last_with(written.origin, written.name, argument)
        if last is None and written.pinned_by == ELSEWHERE:
            continue
        # It went, and came back: of the version in force, which is a guess, nothing follows.
        if last is not None and number_of(last) > version.number:
            continue
        since = f" ({last} was the last)" if last else ""
        yield Finding(
            severity="error",
            argument=argument,
            last=(written.origin, last) if last else None,
            message=(
                f"{written.name} of {written.origin} {version.text} takes no {argument}{since}: "
                "the call is a TypeError"
            ),
            changes=changes,
            advice=advice,
            evidence={"last": last},
        )


def _in_config(plan: Plan, argument: str) -> str:
    """Where TRL's config takes what its trainer took."""
    config = plan.written.name.replace("Trainer", "Config")
    name = argument
    renamed = TRL_SUCCESSORS.get(argument)
    if renamed and renamed.argument:
        name = renamed.argument
    if name not in names_of("trl", config):
        return renamed.words if renamed else ""
    if plan.is_told(argument):
        advice = f"and give {config} {plan.written.form.setting(name, plan.given[argument])}"
        if name == "max_length" and plan.given[argument] is None:
            advice += "; with packing it is the length of a block"
        return advice
    return f"and give {config} {name}, with the value of before"
