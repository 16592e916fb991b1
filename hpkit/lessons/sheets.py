"""Made from the cards: the cheat sheet and the glossary, as Markdown, and questions with answers.

The questions are for fine-tuning a chat model.
"""

import json

from hpkit.formatting import shown
from hpkit.hyperparameters import CARDS, Card

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
    """One page of Markdown: what to set first, what a symptom asks for, where to start."""
    reasons = "`hpkit explain NAME` has the reasons and sources"
    lines = [
        "# Cheat sheet",
        "",
        f"Made from the cards by `make notebooks`; {reasons}.",
        "",
        "## Set first",
        "",
    ]
    for number, (name, why) in enumerate(_FIRST.items(), start=1):
        lines.append(f"{number}. `{name}`: {why}")
    lines += [
        "",
        "Then `hpkit check`: it counts the updates and names what cannot work.",
        "",
        "## What you see, and what to change",
        "",
        "| symptom | hyperparameter | change |",
        "|---|---|---|",
        *_symptom_rows(),
        "",
        "## Where to start",
        "",
        "| hyperparameter | transformers | the notes | start with |",
        "|---|---|---|---|",
    ]
    for card in CARDS.values():
        if card.practice:
            default = shown(card.default)
            lines.append(f"| `{card.name}` | {default} | {card.notes_in_words} | {card.practice} |")
    return "\n".join(lines) + "\n"


def _symptom_rows() -> list[str]:
    """A row for each symptom and hyperparameter; those of one symptom stand together."""
    rows: dict[str, list[str]] = {}
    for card in CARDS.values():
        for symptom, change in card.symptoms.items():
            row = f"| {symptom} | `{card.name}` | {change} |"
            rows.setdefault(symptom, []).append(row)
    return [row for of_symptom in rows.values() for row in of_symptom]


def glossary() -> str:
    """Every hyperparameter in a sentence, as Markdown, with its unit and its notebook.

    Its links lead from the folder of the notebooks.
    """
    lines = [
        "# Glossary",
        "",
        "Made from the cards by `make notebooks`.",
        "",
        "| hyperparameter | unit | what it is | notebook |",
        "|---|---|---|---|",
    ]
    for card in sorted(CARDS.values(), key=lambda card: card.name):
        link = f"[{card.notebook[:2]}]({card.notebook}.ipynb)"
        lines.append(f"| `{card.name}` | {card.unit} | {card.what} | {link} |")
    return "\n".join(lines) + "\n"


def questions() -> str:
    """What the cards know, as JSONL: conversations (`messages`) of a question and its answer."""
    lines = []
    for card in CARDS.values():
        for question, answer in _asked_of(card):
            messages = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            lines.append(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return "".join(lines)


def _asked_of(card: Card) -> list[tuple[str, str]]:
    """Questions about one hyperparameter, each with its answer."""
    name = card.name
    asked = [
        (f"What is {name} in a fine-tune?", card.what),
        (f"In what unit is {name} given?", _sentence(card.unit)),
        (f"What does {name} accept?", _sentence(card.expected)),
        (f"What is {name} if I say nothing?", f"{shown(card.default)}."),
        (
            f"What does hpkit set {name} to, and why?",
            f"{shown(card.starter)}. {_sentence(card.reason.removesuffix('.'))}",
        ),
    ]
    about_notes = f"What do the notes set {name} to?"
    if card.in_notes:
        about_notes = f"Was it right to set {name}={shown(card.notes)}, as the notes do?"
    asked.append((about_notes, card.verdict))
    if card.practice:
        asked.append((f"Where do I start with {name}?", card.practice))
    for symptom, change in card.symptoms.items():
        question = f"My run shows this: {symptom}. What do I change?"
        asked.append((question, f"{name}: {change}."))
    return asked


def _sentence(words: str) -> str:
    # Not str.capitalize, which makes small letters of all the rest, such as JSON.
    return f"{words[0].upper()}{words[1:]}."
