"""What a rule is and what it says, and the register of all rules."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpkit.preflight.forms import Form, change_in_words

if TYPE_CHECKING:
    from hpkit.preflight.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    `message` is one sentence with the number. `severity`: an error stops the run, or the run does
    not do what was asked; a warning costs quality or work; a hint is worth knowing. `evidence`
    holds the numbers by name, `argument` the hyperparameter it is about, or what else of the file,
    by its name in Surroundings. `last`: the package and its last version of which it is not true.

    `changes` mend it: new values by transformers' names, LEAVE_OUT for an argument that goes.
    `advice` says what values cannot, or why these. The register writes the name of the `rule`, and
    `fix`: both of them in words, as the file writes its arguments.
    """

    severity: str
    message: str
    evidence: dict
    changes: Mapping[str, object] = field(default_factory=dict)
    advice: str = ""
    argument: str | None = None
    last: tuple[str, str] | None = None
    rule: str = ""
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.message}. To mend it: {self.fix}"

    def written(self, rule: str, form: Form) -> "Finding":
        """The finding with its rule's name, and with its fix in words."""
        fix = change_in_words(self.changes, self.advice, form)
        return dataclasses.replace(self, rule=rule, fix=fix)


@dataclass(frozen=True)
class Rule:
    """A function from a plan to its findings, and what the plan must know before it is asked.

    `notebook`: the number of the one that teaches what the rule is about. `example`: a file that
    it speaks about, and `options` what `hpkit check` is told beside it.
    """

    name: str
    needs: tuple[str, ...]
    notebook: str
    example: str
    options: str
    look: "Callable[[Plan], Iterable[Finding]]"

    def findings(self, plan: "Plan") -> list[Finding]:
        """What the rule says of `plan`: nothing where the plan lacks what it needs."""
        if not all(plan.has(need) for need in self.needs):
            return []
        found = []
        for finding in self.look(plan):
            changes = plan.in_place_of_old_names(finding.changes)
            finding = dataclasses.replace(finding, changes=changes)
            found.append(finding.written(self.name, plan.written.form))
        return found

    @property
    def summary(self) -> str:
        """The first line of what it says of itself."""
        return inspect.getdoc(self.look).partition("\n")[0]

    @property
    def paragraph(self) -> str:
        """All it says of itself, without line breaks: what is wrong, and why."""
        return " ".join(inspect.getdoc(self.look).split())


#: Every rule by its name, in the order in which the files of `rules` are imported.
REGISTERED_RULES: dict[str, Rule] = {}


def rule(name: str, *needs: str, notebook: str, example: str, options: str = ""):
    """Register a generator of findings under `name`; it is asked where the plan has all `needs`.

    Its docstring is what `hpkit explain` says: a line on what is wrong, then why it is.
    """

    def register(look):
        if name in REGISTERED_RULES:
            raise ValueError(f"two rules have the name {name}")
        REGISTERED_RULES[name] = Rule(name, needs, notebook, example, options, look)
        return look

    return register
