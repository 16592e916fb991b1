"""The rules of preflight, by subject."""

from hpkit.preflight.rules.updates import RATES, RULES, Finding
