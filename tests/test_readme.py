"""The README and the cards say the same; what they point at exists."""

import re
from pathlib import Path

from hpkit.hyperparameters import recipe_table

ROOT = Path(__file__).parent.parent


def test_the_recipe_table_is_that_of_the_cards():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert recipe_table() in readme, "paste the output of `hpkit explain --markdown` into README.md"


def test_every_local_link_leads_somewhere():
    for name in ("README.md", "data/README.md"):
        file = ROOT / name
        links = re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8"))
        assert links
        for link in links:
            assert link.startswith("https://") or (file.parent / link).exists(), link
