"""Every rule fires, stays silent, and its own change mends it, on the cases of the files beside."""

import re

import pytest

from hpkit.preflight import preflight
from hpkit.preflight.rules import ALL_RULES

from ..support import found, mended_by_all
from . import (
    test_adapters,
    test_code,
    test_disk,
    test_memory,
    test_names,
    test_precision,
    test_updates,
    test_values,
)

SUBJECTS = (
    test_updates,
    test_precision,
    test_memory,
    test_values,
    test_names,
    test_code,
    test_disk,
    test_adapters,
)
CASES = {}
for subject in SUBJECTS:
    CASES |= subject.CASES
#: A rule has none where the installed transformers gives it nothing to say.
RULES_WITH_CASE = [rule for rule, case in CASES.items() if case is not None]


def test_every_rule_has_its_cases():
    names = [rule.name for rule in ALL_RULES]
    assert names == list(dict.fromkeys(names))
    assert set(names) == set(CASES)
    # No two files may have a case for the same rule: one would hide the other.
    assert len(CASES) == sum(len(subject.CASES) for subject in SUBJECTS)


@pytest.mark.parametrize("rule", RULES_WITH_CASE)
def test_a_rule_fires_and_stays_silent(rule):
    case = CASES[rule]
    finding = found(case.about, **case.known)[rule]
    # The fault of these is a word, and not a number.
    if rule not in ("invalid-value", "best-model-mismatch", "unread-key"):
        assert re.search(r"\d", finding.message), "a finding proves itself by a number"
    assert "\n" not in finding.message
    assert finding.fix
    assert str(finding).startswith(f"{finding.severity} {rule}: ")
    assert rule not in found(case.silent, **case.known_of_silent)


@pytest.mark.parametrize("rule", [rule for rule in RULES_WITH_CASE if not CASES[rule].by_hand])
def test_the_changes_of_the_report_mend_it(rule):
    case = CASES[rule]
    findings = preflight(case.about, **case.known)
    assert any(finding.changes for finding in findings)
    after = found(mended_by_all(case.about, findings), **case.known)
    assert rule not in after, [finding.fix for finding in findings]
