"""Findings that a file itself asks to leave out: `# hpkit: ignore[rule]`."""

import re
from dataclasses import dataclass

from hpkit.check.files import Contents
from hpkit.errors import did_you_mean
from hpkit.preflight.rules import ALL_RULES

_COMMENT = re.compile(r"#\s*hpkit:\s*ignore(?:\[([^\]]*)\])?")
_ALONE = re.compile(r"\s*#\s*hpkit:\s*ignore\b")
#: The line of a comment that stands for its whole cell.
WHOLE_CELL = 0


def _next_line(lines: list[str], number: int) -> int:
    """The number of the next line that is no such comment itself."""
    while number < len(lines) and _ALONE.match(lines[number]):
        number += 1
    return number + 1


@dataclass(frozen=True)
class Ignored:
    """(cell, line) -> the rules that are ignored there, None for all; and what was misspelt."""

    places: dict[tuple[int | None, int], frozenset[str] | None]
    unknown: list[str]

    def covers(self, rule: str, cell: int | None, line: int) -> bool:
        """Whether a finding of the rule is ignored there."""
        for place in ((cell, line), (cell, WHOLE_CELL)):
            if place in self.places:
                rules = self.places[place]
                if rules is None or rule in rules:
                    return True
        return False


def ignored_in(contents: Contents) -> Ignored:
    """What a file asks to ignore: on a comment's own line, or, alone on a line of a cell, in it.

    In a script or a file of settings a comment alone on its line stands for the next one.
    """
    places = {}
    unknown = []
    known = [rule.name for rule in ALL_RULES]
    for cell, text in contents.texts:
        lines = text.split("\n")
        for number, line in enumerate(lines, 1):
            comment = _COMMENT.search(line)
            if comment is None:
                continue
            rules = None
            if comment[1] is not None:
                rules = frozenset(name.strip() for name in comment[1].split(","))
                for name in sorted(rules - set(known)):
                    unknown.append(
                        f"line {number}: ignore[{name}]: there is no such rule"
                        f"{did_you_mean(name, known)}"
                    )
            if _ALONE.match(line):
                number = WHOLE_CELL if cell is not None else _next_line(lines, number)
            earlier = places.get((cell, number), frozenset())
            if rules is None or earlier is None:
                places[cell, number] = None
            else:
                places[cell, number] = earlier | rules
    return Ignored(places, unknown)
