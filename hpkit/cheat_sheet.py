"""The cheat sheet and the glossary: Markdown made from the cards."""

from hpkit.hyperparameters import CARDS, shown

#: What to set first, and why in this order.
_FIRST = {
    "max_seq_length": "from the lengths of your data",
    "per_device_train_batch_size": "what the memory bears at that length",
    "gradient_accumulation_steps": "the batch you want, divided by the one that fits",
    "num_train_epochs": "now the number of updates is known",
    "warmup_steps": "a share of those updates",
    "learning_rate": "the one to search, over decades first",
}


def cheat_sheet() -> str:
    """One page of Markdown made from the cards: what to set first, symptom to hyperparameter, where to start."""
    lines = [
        "# Cheat sheet",
        "",
        "Made from the cards by `make notebooks`; `hpkit explain NAME` has the reasons and sources.",
        "",
        "## Set first",
        "",
    ]
    lines += [f"{number}. `{name}`: {why}" for number, (name, why) in enumerate(_FIRST.items(), 1)]
    lines += ["", "Then `hpkit check`: it counts the updates and names what cannot work.", "", "## What you see, and what to change", ""]
    lines += ["| symptom | hyperparameter | change |", "|---|---|---|"]
    found = [(symptom, card.name, change) for card in CARDS.values() for symptom, change in card.symptoms.items()]
    order = list(dict.fromkeys(symptom for symptom, _, _ in found))
    lines += [f"| {symptom} | `{name}` | {change} |" for symptom, name, change in sorted(found, key=lambda row: order.index(row[0]))]
    lines += ["", "## Where to start", "", "| hyperparameter | transformers | the notes | start with |", "|---|---|---|---|"]
    for card in CARDS.values():
        if card.practice:
            lines.append(f"| `{card.name}` | {shown(card.default)} | {shown(card.notes)} | {card.practice} |")
    return "\n".join(lines) + "\n"


def glossary() -> str:
    """Every hyperparameter in one sentence, as Markdown, with its unit and the notebook that moves it."""
    lines = [
        "# Glossary",
        "",
        "Made from the cards by `make notebooks`.",
        "",
        "| hyperparameter | unit | what it is | notebook |",
        "|---|---|---|---|",
    ]
    for card in sorted(CARDS.values(), key=lambda card: card.name):
        lines.append(f"| `{card.name}` | {card.unit} | {card.what} | [{card.notebook[:2]}](notebooks/{card.notebook}.ipynb) |")
    return "\n".join(lines) + "\n"
