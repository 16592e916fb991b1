"""One set of changes for all findings: no two ask for different values of an argument."""

import dataclasses

from hpkit.preflight.plan import Plan
from hpkit.preflight.register import REGISTERED_RULES, Finding

SEVERITIES = ("error", "warning", "hint")
#: How often what was mended is looked at again. A change may bring a fault of its own, and that one
#: another; drawn configurations need two rounds at most.
ROUNDS = 6


def agreed(found: list[Finding], plan: Plan) -> list[Finding]:
    """The findings, worst first, with changes that may be made together.

    Each rule is asked again about the run as the changes of the worse findings have mended it: what
    they mend already asks for nothing more, and what a change breaks is mended with it.
    """
    mended = plan
    changes = {}  # argument -> its value in the end
    by_finding = []
    for finding in found:
        own = _asked_again(finding, mended) if changes else finding
        if own is None:
            own = dataclasses.replace(
                finding, changes={}, advice=_mended_by(finding, by_finding, plan)
            )
        by_finding.append(own)
        changes |= own.changes
        if own.changes:
            mended = mended.changed(own.changes)
    if not changes:
        return found
    for _ in range(ROUNDS):
        brought = _errors(mended)
        if not brought:
            break
        for error in brought:
            at = _caused_by(error, by_finding)
            together = {**by_finding[at].changes, **error.changes}
            by_finding[at] = dataclasses.replace(by_finding[at], changes=together)
            changes |= error.changes
            mended = mended.changed(error.changes)
    result = []
    for finding in by_finding:
        own = {argument: changes[argument] for argument in finding.changes}
        agreeing = dataclasses.replace(finding, changes=own)
        result.append(agreeing.written(finding.rule, plan.written.form))
    return result


def _asked_again(finding: Finding, mended: Plan) -> Finding | None:
    """What the rule asks for after the changes so far; None where they have mended it."""
    rule = REGISTERED_RULES[finding.rule]
    if not finding.changes:
        return finding
    try:
        findings = rule.findings(mended)
    except Exception:  # one that fails on the mended run keeps to what it said of the run itself
        return finding
    for again in findings:
        if again.argument == finding.argument:
            return dataclasses.replace(finding, changes=again.changes, advice=again.advice)
    return None


def _mended_by(finding: Finding, by_finding: list[Finding], plan: Plan) -> str:
    for earlier in by_finding:
        if earlier.changes and _asked_again(finding, plan.changed(earlier.changes)) is None:
            return f"what {earlier.rule} asks for mends this too"
    return "what the findings above ask for mends this too"


def _errors(mended: Plan) -> list[Finding]:
    """The errors of the mended run that values can mend."""
    found = []
    for rule in REGISTERED_RULES.values():
        try:
            findings = rule.findings(mended)
        except Exception:  # it failed on the run itself, and said so
            continue
        found += [one for one in findings if one.severity == "error" and one.changes]
    return found


def _caused_by(error: Finding, by_finding: list[Finding]) -> int:
    """The place of the finding whose change brought the error: one of what the rule looks at."""
    needs = REGISTERED_RULES[error.rule].needs
    places = [place for place, finding in enumerate(by_finding) if finding.changes]
    for place in reversed(places):
        if set(needs) & set(by_finding[place].changes):
            return place
    return places[-1]
