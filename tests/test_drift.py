"""What the kit takes from other libraries, read off its own source: each name and argument must be
in the installed versions."""

import ast
import importlib
import inspect
import pkgutil
from collections import defaultdict
from pathlib import Path

import nbformat
import pytest

import hpkit

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LIBRARIES = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "ipywidgets",
    "matplotlib",
    "numpy",
    "pyarrow",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
#: What is called on objects, which the source does not name: the same by hand.
OF_OBJECTS = {
    "transformers.Trainer": "evaluate get_batch_samples get_train_dataloader hyperparameter_search "
    "is_in_train prediction_step remove_callback save_model train training_step",
    "transformers.TrainerState": "global_step is_world_process_zero log_history "
    "num_input_tokens_seen",
    "transformers.TrainerControl": "should_evaluate should_log should_save should_training_stop",
    "transformers.TrainerCallback": "on_epoch_end on_log on_step_end on_train_begin on_train_end",
    "transformers.TrainingArguments": "get_warmup_steps n_gpu world_size disable_tqdm "
    "include_num_input_tokens_seen ddp_find_unused_parameters",
    "accelerate.Accelerator": "gradient_state num_processes process_index reduce",
    "accelerate.PartialState": "destroy_process_group",
    "accelerate.state.GradientState": "end_of_dataloader",
    "transformers.LlamaForCausalLM": "generate num_parameters save_pretrained "
    "set_attn_implementation",
    "torch.optim.Optimizer": "state_dict step zero_grad",
    "torch.nn.Module": "named_modules named_parameters register_forward_hook",
    "ipywidgets.SelectionSlider": "disabled hold_sync index layout observe options value",
}


@pytest.fixture(scope="module", autouse=True)
def operators():
    """bitsandbytes adds its operators to torch.ops when it is imported, and only then: without this
    they would be there or not by what other tests have run before."""
    importlib.import_module("bitsandbytes")


def sources() -> dict[str, str]:
    """The Python of hpkit, and of the notebooks."""
    folder = Path(hpkit.__file__).parent
    read = {}
    for file in folder.rglob("*.py"):
        read[str(file.relative_to(folder))] = file.read_text(encoding="utf-8")
    # Were the package to move, a search that finds nothing would pass every test here.
    modules = [module.name for module in pkgutil.walk_packages(hpkit.__path__, "hpkit.")]
    assert len(read) == len(["hpkit", *modules]), f"{len(read)} files, {len(modules)} modules"
    assert len(read) > 50, f"of hpkit only {len(read)} files were read"
    for file in NOTEBOOKS.glob("*.ipynb"):
        cells = nbformat.read(file, as_version=4).cells
        read[file.name] = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return read


class Names:
    """The dotted names that a source imports: `asked_for`, and what each of its own names means."""

    def __init__(self, tree: ast.Module):
        self.asked_for = set()
        self.meaning = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.add_import(alias)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    self.meaning[alias.asname or alias.name] = name
                    self.asked_for.add(name)

    def add_import(self, alias: ast.alias) -> None:
        self.asked_for.add(alias.name)
        if alias.asname:
            self.meaning[alias.asname] = alias.name
        else:  # `import torch.nn` makes the name `torch`
            first = alias.name.partition(".")[0]
            self.meaning[first] = first

    def dotted(self, node: ast.AST) -> str | None:
        """`torch.optim.AdamW` for the expression `optim.AdamW`; None for what is not imported."""
        if isinstance(node, ast.Name):
            return self.meaning.get(node.id)
        if isinstance(node, ast.Attribute):
            before = self.dotted(node.value)
            return before and f"{before}.{node.attr}"
        return None


def used(source: str) -> dict[str, set[str]]:
    """Dotted names of LIBRARIES in a source, as `torch.optim.AdamW`, each with the keyword
    arguments it is called with."""
    tree = ast.parse(source)
    names = Names(tree)
    found = {name: set() for name in names.asked_for}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = names.dotted(node)
            if name:
                found.setdefault(name, set())
        elif isinstance(node, ast.Call):
            made = node.func
            # `without_repeats(Trainer)(...)` makes a Trainer, and takes what a Trainer takes.
            if isinstance(made, ast.Call) and len(made.args) == 1:
                made = made.args[0]
            name = names.dotted(made)
            if name:
                keywords = {keyword.arg for keyword in node.keywords}
                found.setdefault(name, set()).update(keywords - {None})  # None: `**settings`
    return {name: keywords for name, keywords in found.items() if is_of_a_library(name)}


def is_of_a_library(name: str) -> bool:
    return name.partition(".")[0] in LIBRARIES


def resolve(name: str):
    """The object of a dotted name. Raises AttributeError or ImportError, with the name, where there
    is none."""
    parts = name.split(".")
    # The longest part that is a module, and from there on attributes.
    for cut in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            thing = getattr(thing, part)
        return thing
    raise ImportError(name)


def takes(thing, argument: str) -> bool:
    """Whether a function or class names an argument: in its signature, among its traits, or, behind
    `**kwargs`, in its words."""
    if hasattr(thing, "class_trait_names"):  # a widget's arguments are its traits
        return argument in thing.class_trait_names()
    try:
        parameters = inspect.signature(thing).parameters
    except (TypeError, ValueError):  # written in C++: only its documentation lists them
        return argument in (thing.__doc__ or "")
    if argument in parameters:
        return True
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return False
    handed_on = [inspect.getmodule(thing)]
    # The Auto classes hand everything on to the class that they find.
    if handed_on[0].__name__ == "transformers.models.auto.auto_factory":
        handed_on.append(inspect.getmodule(resolve("transformers.PreTrainedModel")))
    return any(argument in inspect.getsource(module) for module in handed_on)


EVERYWHERE = defaultdict(set)
for text in sources().values():
    for dotted_name, keywords in used(text).items():
        EVERYWHERE[dotted_name] |= keywords


@pytest.mark.parametrize("name", sorted(EVERYWHERE))
def test_what_is_used_is_there(name):
    thing = resolve(name)
    for argument in EVERYWHERE[name]:
        assert takes(thing, argument), f"{name} of the installed version takes no {argument}"


@pytest.mark.parametrize("name", OF_OBJECTS)
def test_what_is_used_of_objects_is_there(name):
    thing = resolve(name)
    there = {*dir(thing), *getattr(thing, "__dataclass_fields__", ())}
    if hasattr(thing, "class_trait_names"):
        there.update(thing.class_trait_names())
    for attribute in OF_OBJECTS[name].split():
        # What only __init__ sets is no attribute of the class.
        assert attribute in there or f"self.{attribute} = " in inspect.getsource(thing), (
            f"{name} of the installed version has no {attribute}"
        )


def test_the_scan_finds_what_matters():
    for name, argument in {
        "transformers.Trainer": "processing_class",
        "transformers.AutoModelForCausalLM.from_pretrained": "trust_remote_code",
        "torch.optim.AdamW": "fused",
        "bitsandbytes.functional.dequantize_blockwise": "blocksize",
        "ipywidgets.SelectionSlider": "options",
    }.items():
        assert argument in EVERYWHERE[name]


@pytest.mark.parametrize(
    "source, missing",
    [
        ("from transformers import Trainer\nTrainer(tokenizer=1)", "tokenizer"),  # until 4.x
        ("import torch\ntorch.optim.AdamW([], learning_rate=1)", "learning_rate"),
        ("import torch\ntorch.tensor(1, kind=1)", "kind"),
        ("import ipywidgets as w\nw.HTML(alt='a')", "alt"),
        (
            "from transformers import AutoConfig\nAutoConfig.from_pretrained('a', trust_no_code=1)",
            "trust_no_code",
        ),
    ],
)
def test_an_argument_that_is_not_there_is_named(source, missing):
    ((name, arguments),) = [item for item in used(source).items() if item[1]]
    assert arguments == {missing} and not takes(resolve(name), missing)


def test_a_name_that_is_not_there_is_named():
    names = used("import torch\ntorch.optim.AdamV()").keys() - {"torch", "torch.optim"}
    (name,) = names
    with pytest.raises(AttributeError, match="AdamV"):
        resolve(name)
