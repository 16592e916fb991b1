"""Made from the cards: the cheat sheet and the glossary, as Markdown, and questions with answers to fine-tune a chat model on."""

import json

from hpkit.formatting import shown
from hpkit.hyperparameters import CARDS

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
    lines += [
        "",
        "Then `hpkit check`: it counts the updates and names what cannot work.",
        "",
        "## What you see, and what to change",
        "",
    ]
    lines += ["| symptom | hyperparameter | change |", "|---|---|---|"]
    found = [
        (symptom, card.name, change)
        for card in CARDS.values()
        for symptom, change in card.symptoms.items()
    ]
    order = list(dict.fromkeys(symptom for symptom, _, _ in found))
    lines += [
        f"| {symptom} | `{name}` | {change} |"
        for symptom, name, change in sorted(found, key=lambda row: order.index(row[0]))
    ]
    lines += [
        "",
        "## Where to start",
        "",
        "| hyperparameter | transformers | the notes | start with |",
        "|---|---|---|---|",
    ]
    for card in CARDS.values():
        if card.practice:
            lines.append(
                f"| `{card.name}` | {shown(card.default)} | {shown(card.notes)} | {card.practice} |"
            )
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
        lines.append(
            f"| `{card.name}` | {card.unit} | {card.what} | [{card.notebook[:2]}](notebooks/{card.notebook}.ipynb) |"
        )
    return "\n".join(lines) + "\n"


def questions() -> str:
    """What the cards know as a conversation of one question and one answer each, in the lines of a JSONL file (`messages`)."""
    asked = []
    for card in CARDS.values():
        ours = shown(card.starter)
        asked += [
            (f"What is {card.name} in a fine-tune?", card.what),
            (f"In what unit is {card.name} given?", f"{card.unit[0].upper()}{card.unit[1:]}."),
            (f"What does {card.name} accept?", f"{card.expected[0].upper()}{card.expected[1:]}."),
            (
                f"What value does transformers take for {card.name} if I say nothing?",
                f"{shown(card.default)}.",
            ),
            (
                f"What does hpkit set {card.name} to, and why?",
                f"{ours}. {card.why or 'The notes have the same value, and it does no harm.'}",
            ),
            (
                f"Was it right to set {card.name}={shown(card.notes)}, as the notes do?",
                card.verdict,
            ),
        ]
        asked += [(f"Where do I start with {card.name}?", card.practice)] * bool(card.practice)
        asked += [
            (f"My run shows this: {symptom}. What do I change?", f"{card.name}: {change}.")
            for symptom, change in card.symptoms.items()
        ]
    rows = [
        {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]}
        for ask, answer in asked
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
