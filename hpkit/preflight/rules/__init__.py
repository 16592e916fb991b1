"""The rules by subject, each a generator of findings over a plan that has what the rule needs."""

from hpkit.preflight.register import REGISTERED_RULES

# Importing a file registers its rules, and findings of one severity come in that order: the broken
# run's updates first. So it is the order of reading, not of the alphabet.
# isort: off
from hpkit.preflight.rules import updates
from hpkit.preflight.rules import cadence
from hpkit.preflight.rules import precision
from hpkit.preflight.rules import memory
from hpkit.preflight.rules import values
from hpkit.preflight.rules import idle
from hpkit.preflight.rules import rates
from hpkit.preflight.rules import names
from hpkit.preflight.rules import moved
from hpkit.preflight.rules import gone
from hpkit.preflight.rules import adapters
from hpkit.preflight.rules import frozen
from hpkit.preflight.rules import targets
from hpkit.preflight.rules import code
from hpkit.preflight.rules import disk
# isort: on

ALL_RULES = tuple(REGISTERED_RULES.values())
