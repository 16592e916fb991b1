"""Recipes and cards against the installed transformers."""

import dataclasses

import pytest

from hpkit import accounting
from hpkit.errors import BadInput
from hpkit.hyperparameters import CARDS, SCHEDULERS
from hpkit.recipe import (
    ADAPTER,
    NOT_ARGUMENTS,
    NOTES,
    QUANTIZATION,
    STARTER,
    Recipe,
    load_recipe,
    parse_value,
)


def test_defaults_are_those_of_transformers(tmp_path):
    from transformers import TrainingArguments

    theirs = TrainingArguments(output_dir=str(tmp_path))
    for field in dataclasses.fields(Recipe):
        if field.name not in (*NOT_ARGUMENTS, "eval_steps"):
            assert getattr(theirs, field.name) == field.default, field.name


def test_defaults_of_adapters_are_those_of_peft_and_of_quantization_those_of_transformers():
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig

    recipe = Recipe()
    theirs = LoraConfig()
    for name in ADAPTER:
        # No rank is no adapter, and all linear layers have one, where peft's choice is by model.
        if name not in ("lora_r", "target_modules"):
            assert getattr(theirs, name) == getattr(recipe, name), name
    theirs = BitsAndBytesConfig()
    for name in QUANTIZATION:
        value = getattr(theirs, name)
        assert str(value).removeprefix("torch.") == str(getattr(recipe, name)), name


def test_every_field_reaches_training_arguments(tmp_path):
    arguments = STARTER.training_arguments(tmp_path, use_cpu=True)
    for name, value in dataclasses.asdict(STARTER).items():
        if name not in NOT_ARGUMENTS:
            assert getattr(arguments, name) == value, name


def test_schedulers_are_those_of_transformers():
    from transformers import SchedulerType

    assert set(SCHEDULERS) == {kind.value for kind in SchedulerType}


def test_cards_and_recipes_hold_the_same_names():
    assert list(CARDS) == [field.name for field in dataclasses.fields(Recipe)]


def test_a_reason_stands_exactly_where_ours_differs():
    for card in CARDS.values():
        assert bool(card.why) == (card.notes != card.starter), card.name


def test_the_notes_values():
    # Copied from the notes by hand, once: the outside truth of this table.
    notes = dict(
        seed=3407,
        learning_rate=1e-4,
        warmup_steps=2000,
        gradient_accumulation_steps=32,
        logging_steps=2000,
        save_strategy="steps",
        eval_strategy="steps",
        logging_strategy="steps",
        num_train_epochs=2,
        lr_scheduler_type="linear",
        weight_decay=0.01,
        optim="adamw_8bit",
        bf16=True,
        fp16=False,
        max_seq_length=None,
    )
    for name, value in notes.items():
        assert getattr(NOTES, name) == value, name
    kept = ("num_train_epochs", "lr_scheduler_type", "weight_decay", "seed", "optim", "bf16")
    assert all(getattr(STARTER, name) == getattr(NOTES, name) for name in kept)


def test_numbers_in_the_cards_come_from_the_accounting():
    from hpkit.corpus import encode, load_corpus, pack
    from hpkit.memory import optimizer_states, parameters_of
    from hpkit.model import character_tokenizer, load_model

    corpus = load_corpus("airdsAirs")
    train = pack(encode(corpus, character_tokenizer())[0], STARTER.max_seq_length)
    count = accounting.account(STARTER, len(train), STARTER.max_seq_length)
    accumulated = accounting.account(STARTER.replace(gradient_accumulation_steps=32), len(train))
    assert (
        f"{accumulated.updates} updates of {count.updates}"
        in CARDS["gradient_accumulation_steps"].why
    )
    assert f"{count.updates} updates" in CARDS["learning_rate"].why
    assert f"{count.updates} updates" in CARDS["warmup_steps"].why
    assert f"{count.updates} updates" in CARDS["logging_steps"].why
    mean = sum(map(len, corpus.documents)) / len(corpus.documents)
    assert f"about {round(mean, -1):.0f} characters" in CARDS["max_seq_length"].why
    # AdamW multiplies weights by 1 - lr * decay at each update.
    assert f"{1 - (1 - 1e-4 * 0.01) ** 400:.2%}".replace("%", " %") in CARDS["weight_decay"].verdict
    states = sum(
        state.bytes
        for state in optimizer_states(parameters_of(load_model("fresh")[0]), "adamw_8bit")
    )
    assert f"{(4 * 1_781_952 + states) / 1e6:.0f} MB" in CARDS["save_total_limit"].why
    assert 2 / (1 - CARDS["adam_beta2"].notes) == pytest.approx(CARDS["warmup_steps"].notes)


OUT_OF_RANGE = {
    "per_device_train_batch_size": 0,
    "gradient_accumulation_steps": 0,
    "max_seq_length": 1,
    "packing": "yes",
    "num_train_epochs": 0,
    "max_steps": 0,
    "learning_rate": float("nan"),
    "warmup_steps": -1,
    "lr_scheduler_type": "lineal",
    "lr_scheduler_kwargs": [1],
    "weight_decay": -0.1,
    "max_grad_norm": -1,
    "optim": "",
    "adam_beta1": 1.0,
    "adam_beta2": -0.1,
    "adam_epsilon": 0,
    "bf16": 1,
    "fp16": "yes",
    "dtype": "auto",
    "lora_r": 0,
    "lora_alpha": 0,
    "lora_dropout": 1,
    "target_modules": " , ",
    "use_rslora": "yes",
    "load_in_4bit": 4,
    "bnb_4bit_compute_dtype": "int8",
    "bnb_4bit_use_double_quant": None,
    "seed": -1,
    "logging_strategy": "never",
    "logging_steps": 0,
    "eval_strategy": "always",
    "eval_steps": 1.5,
    "save_strategy": True,
    "save_steps": -500,
    "save_total_limit": 0,
}


@pytest.mark.parametrize("name", CARDS)
def test_out_of_range(name):
    with pytest.raises(BadInput, match=f"^{name}: expected .*, got"):
        Recipe().replace(**{name: OUT_OF_RANGE[name]})


def test_both_halves_at_once():
    with pytest.raises(BadInput, match="bf16 and fp16"):
        Recipe(bf16=True, fp16=True)


def test_the_nearest_name_is_offered(tmp_path):
    with pytest.raises(BadInput, match="did you mean learning_rate"):
        Recipe().replace(learning_rte=1)
    with pytest.raises(BadInput, match="did you mean cosine"):
        Recipe(lr_scheduler_type="cosin")
    with pytest.raises(BadInput, match="did you mean adamw_8bit"):
        Recipe(optim="adamw_8bits").training_arguments(tmp_path, use_cpu=True)


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("learning_rate", "3e-4", 3e-4),
        ("per_device_train_batch_size", "16", 16),
        ("max_steps", "-1", -1),
        ("warmup_steps", "20", 20),
        ("warmup_steps", "0.1", 0.1),
        ("logging_steps", "0.05", 0.05),
        ("num_train_epochs", "1.5", 1.5),
        ("bf16", "false", False),
        ("fp16", "True", True),
        ("max_seq_length", "none", None),
        ("eval_steps", "None", None),
        ("lr_scheduler_type", "cosine", "cosine"),
        ("lr_scheduler_kwargs", '{"num_cycles": 2}', {"num_cycles": 2}),
    ],
)
def test_values_from_the_command_line(name, text, value):
    parsed = parse_value(name, text)
    assert parsed == value and type(parsed) is type(value)
    Recipe().replace(**{name: parsed})


@pytest.mark.parametrize(
    "name, text",
    [("bf16", "maybe"), ("learning_rate", "fast"), ("seed", "0x10"), ("lr_scheduler_kwargs", "{")],
)
def test_text_that_is_no_value(name, text):
    with pytest.raises(BadInput, match=f"^{name}: expected"):
        parse_value(name, text)


def test_a_fraction_where_a_whole_number_belongs():
    with pytest.raises(BadInput, match="whole number"):
        Recipe().replace(seed=parse_value("seed", "1.5"))


def test_recipe_files(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        "learning_rate = 3e-4\n"
        'lr_scheduler_type = "cosine_with_min_lr"\n'
        "[lr_scheduler_kwargs]\n"
        "min_lr_rate = 0.1\n"
    )
    recipe = load_recipe(str(file))
    assert recipe.learning_rate == 3e-4
    assert recipe.lr_scheduler_kwargs == {"min_lr_rate": 0.1}
    assert recipe.seed == 42  # transformers' default
    for text, message in (
        ("learning_rat = 1", "did you mean learning_rate"),
        ("a = = 1", "is not TOML"),
        ("seed = 'x'", "seed: expected"),
    ):
        file.write_text(text)
        with pytest.raises(BadInput, match=message):
            load_recipe(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="is not TOML"):
        load_recipe(str(file))
    with pytest.raises(BadInput, match="no such file.*did you mean notes"):
        load_recipe("note")
    assert load_recipe("starter") is STARTER and load_recipe("notes") is NOTES
