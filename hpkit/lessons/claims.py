"""Claims: sentences that a run can test, each bound to the measurement that decides it.

They are declared in `data/claims.toml`. A notebook calls `check` with what it has just measured.
The ledger is read from the notebooks' outputs, so it says what was measured when they were last
executed, and nothing else.
"""

import html
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hpkit.errors import BadInput, did_you_mean
from hpkit.files import data_folder, read_toml

#: Each verdict with a mark that tells it apart without colour.
VERDICTS = {"holds": "✓", "partly": "◐", "refuted": "✗", "not seen at this scale": "○"}
#: The type of output under which a notebook keeps a checked claim for the ledger.
MIME = "application/vnd.hpkit.claim+json"


@dataclass(frozen=True)
class Claim:
    """A sentence somebody believes.

    `notebook` tests it; `notes`: the notes' own words, in Turkish, where it is theirs.
    """

    id: str
    sentence: str
    notebook: str
    notes: str = ""


@dataclass(frozen=True)
class Checked:
    """A claim, what was `measured`, in words with units, and the `verdict`, one of VERDICTS."""

    claim: Claim
    measured: str
    verdict: str

    def __str__(self) -> str:
        return f"{self.claim.id}: {self.marked_verdict}. Measured: {self.measured}"

    @property
    def marked_verdict(self) -> str:
        """`✓ holds`."""
        return f"{VERDICTS[self.verdict]} {self.verdict}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        sentence = html.escape(self.claim.sentence)
        if self.claim.notes:
            # A screen reader has to know that these words are Turkish.
            sentence += f"<br><i lang='tr'>{html.escape(self.claim.notes)}</i> (the notes)"
        words = (
            f"<b>Claim:</b> {sentence}"
            f"<br><b>Measured:</b> {html.escape(self.measured)}"
            f"<br><b>Verdict:</b> {self.marked_verdict}"
        )
        return {"text/plain": str(self), "text/html": f"<p>{words}</p>", MIME: asdict(self)}


def load_claims(file: str | Path | None = None) -> dict[str, Claim]:
    """The declared claims by id, by default the project's, `data/claims.toml`. Raises BadInput."""
    file = Path(file) if file else data_folder() / "claims.toml"
    claims = {}
    for name, table in read_toml(file, "claims").items():
        required = {"sentence", "notebook"}
        if not isinstance(table, dict) or not required <= table.keys() <= required | {"notes"}:
            expected = "expected sentence, notebook and perhaps notes"
            raise BadInput(f"claim {name} of {file}: {expected}, got {table!r}")
        claims[name] = Claim(name, **table)
    return claims


def check(name: str, measured: str, verdict: str) -> Checked:
    """Bind the claim `name` to what was measured.

    The verdict should follow from the same numbers. Raises BadInput for a claim or a verdict that
    is none.
    """
    claims = load_claims()
    if name not in claims:
        hint = did_you_mean(name, claims)
        raise BadInput(f"claim: expected one of data/claims.toml, got {name!r}{hint}")
    if verdict not in VERDICTS:
        hint = did_you_mean(verdict, VERDICTS)
        raise BadInput(f"verdict: expected one of {', '.join(VERDICTS)}, got {verdict!r}{hint}")
    return Checked(claims[name], measured, verdict)


def read_ledger(notebooks: list[Path]) -> list[Checked]:
    """What executed notebooks hold, in their order."""
    ledger = []
    for notebook in notebooks:
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", ()):  # a cell of prose has none
                kept = output.get("data", {}).get(MIME)
                if kept:
                    claim = Claim(**kept["claim"])
                    ledger.append(Checked(claim, kept["measured"], kept["verdict"]))
    return ledger


def ledger_table(ledger: list[Checked]) -> str:
    """The ledger as a Markdown table, one row a claim, its links from the notebooks' folder."""
    rows = ["| claim | the notes | measured | verdict | notebook |", "|---|---|---|---|---|"]
    for entry in ledger:
        claim = entry.claim
        notes = claim.notes and f"*{claim.notes}*"
        link = f"[{claim.notebook[:2]}]({claim.notebook}.ipynb)"
        cells = (claim.sentence, notes, entry.measured, entry.marked_verdict, link)
        # A bar in the words would end the cell.
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)
