"""Claims: sentences that a run can test, declared in `data/claims.toml`, each bound to the measurement that decides it.

A notebook calls `check` with what it has just measured. The ledger is read from the notebooks' outputs, so it says what
was measured when they were last executed, and nothing else.
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
    """A sentence somebody believes. `notes`: the notes' own words, in Turkish, where it is theirs; `notebook` tests it."""

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
        return (
            f"{self.claim.id}: {VERDICTS[self.verdict]} {self.verdict}. Measured: {self.measured}"
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        notes = (
            f"<br><i lang='tr'>{html.escape(self.claim.notes)}</i> (the notes)"
            if self.claim.notes
            else ""
        )
        words = f"<b>Claim:</b> {html.escape(self.claim.sentence)}{notes}<br><b>Measured:</b> {html.escape(self.measured)}"
        words += f"<br><b>Verdict:</b> {VERDICTS[self.verdict]} {self.verdict}"
        return {"text/plain": str(self), "text/html": f"<p>{words}</p>", MIME: asdict(self)}


def load_claims(file: str | Path | None = None) -> dict[str, Claim]:
    """The declared claims by id, by default the project's, `data/claims.toml`. Raises BadInput."""
    file = Path(file) if file else data_folder() / "claims.toml"
    claims = {}
    for name, table in read_toml(file, "claims").items():
        known = {"sentence", "notebook", "notes"}
        if not isinstance(table, dict) or not {"sentence", "notebook"} <= table.keys() <= known:
            raise BadInput(
                f"claim {name} of {file}: expected sentence, notebook and perhaps notes, got {table!r}"
            )
        claims[name] = Claim(name, **table)
    return claims


def check(name: str, measured: str, verdict: str) -> Checked:
    """Bind the claim `name` to what was measured; the verdict should follow from the same numbers. Raises BadInput."""
    claims = load_claims()
    if name not in claims:
        raise BadInput(
            f"claim: expected one of data/claims.toml, got {name!r}{did_you_mean(name, claims)}"
        )
    if verdict not in VERDICTS:
        raise BadInput(
            f"verdict: expected one of {', '.join(VERDICTS)}, got {verdict!r}{did_you_mean(verdict, VERDICTS)}"
        )
    return Checked(claims[name], measured, verdict)


def read_ledger(notebooks: list[Path]) -> list[Checked]:
    """What executed notebooks hold, in their order."""
    found = []
    for notebook in notebooks:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for output in (output for cell in cells for output in cell.get("outputs", ())):
            if kept := output.get("data", {}).get(MIME):
                found.append(Checked(Claim(**kept["claim"]), kept["measured"], kept["verdict"]))
    return found


def ledger_table(ledger: list[Checked]) -> str:
    """The ledger as a Markdown table, one row a claim."""
    rows = ["| claim | the notes | measured | verdict | notebook |", "|---|---|---|---|---|"]
    for entry in ledger:
        claim, verdict = entry.claim, f"{VERDICTS[entry.verdict]} {entry.verdict}"
        link = f"[{claim.notebook[:2]}](notebooks/{claim.notebook}.ipynb)"
        cells = (claim.sentence, claim.notes and f"*{claim.notes}*", entry.measured, verdict, link)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)
