"""What is wrong with a run before it runs.

Each finding has the number that proves it and the change that mends it. `preflight` looks at a
recipe, at TrainingArguments, or at the arguments that `hpkit.check.scripts` read from a file.
"""

from hpkit.capability import Machine, find_machine, probe
from hpkit.errors import in_one_line
from hpkit.preflight.agreement import SEVERITIES, agreed
from hpkit.preflight.known_model import look_at_model
from hpkit.preflight.plan import Plan
from hpkit.preflight.register import Finding, Rule
from hpkit.preflight.rules import ALL_RULES
from hpkit.preflight.written import Written
from hpkit.recipe import Recipe


def preflight(
    settings,
    examples: int | None = None,
    model=None,
    device: Machine | str | None = None,
    *,
    lengths: list[int] | None = None,
    processes: int = 1,
    base: Recipe | None = None,
    written: Written | None = None,
) -> list[Finding]:
    """The findings about a run, errors first. Their changes may be made together.

    `settings`: a Recipe, live TrainingArguments, or a dict of arguments, for which `written` says
    how they stand in a script. `examples`: training examples, or blocks of tokens. `model`: a live
    model, a transformers config, `starter`, a folder, a hub id or a size such as "7B". `device`: a
    Machine or a name of capability.MACHINES, or `here`. `lengths`: tokens of each training
    document. `base`: the recipe that `settings` was derived from. A rule that fails is a finding
    itself, a hint. Raises BadInput.
    """
    machine = find_machine(device) if isinstance(device, str) else device
    plan = Plan(
        settings,
        examples=examples,
        model=look_at_model(model),
        machine=machine,
        lengths=lengths,
        processes=processes,
        base=base,
        written=written or Written(),
    )
    found = []
    for rule in ALL_RULES:
        found += _found_by(rule, plan)
    # The sort is stable: findings of one severity stay in the order of the rules.
    return agreed(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)), plan)


def _found_by(rule: Rule, plan: Plan) -> list[Finding]:
    """What the rule finds; where it fails, on a model that nobody thought of, that it did."""
    try:
        return rule.findings(plan)
    except Exception as error:
        failed = Finding(
            severity="hint",
            message=f"this rule failed ({in_one_line(error)}) and was left out",
            advice="change nothing in the run, and report the rule",
            evidence={"failed": type(error).__name__},
        )
        return [failed.written(rule.name, plan.written.form)]


def preflight_callback(log=print, **known):
    """A Trainer callback that prints the findings when training starts, and never ends it.

    `Trainer(…, callbacks=[preflight_callback()])`. It takes examples, model and device from the
    Trainer; `known` goes to `preflight` and overrides them.
    """
    from transformers import TrainerCallback

    class Preflight(TrainerCallback):
        """Speaks once, in the process that logs."""

        def on_train_begin(self, args, state, control, model=None, train_dataloader=None, **kwargs):
            if not state.is_world_process_zero:
                return
            try:
                seen = _seen_in_a_trainer(args, model, train_dataloader)
                findings = preflight(args, **seen | known)
            except Exception as error:
                log(f"preflight could not look at this run ({in_one_line(error)}); it goes on")
                return
            for finding in findings:
                log(str(finding))
            if not findings:
                log("preflight: nothing found")

    return Preflight()


def _seen_in_a_trainer(arguments, model, dataloader) -> dict:
    """What `preflight` takes beside the settings, from a Trainer that begins."""
    data = getattr(dataloader, "dataset", None)
    # Trying the optimizer would empty bitsandbytes' overrides, which this training needs.
    machine = probe(try_optimizer=False)
    if arguments.use_cpu and machine.device != "cpu":
        machine = None  # the probe tells of the GPU, which this run leaves alone
    return {
        "model": model,
        "examples": len(data) if hasattr(data, "__len__") else None,
        "device": machine,
        # torch's DataParallel shares each batch among the GPUs of one process.
        "processes": arguments.world_size * max(arguments.n_gpu, 1),
    }
