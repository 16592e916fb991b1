"""What the code around a call says of model, tokenizer and data, for the rules that ask."""

import ast
import re

from hpkit.check.adapter_facts import AdapterFacts, is_none
from hpkit.check.expressions import Expressions
from hpkit.check.names import Names, keyword, last_name, position
from hpkit.check.rows import DataSets, Rows
from hpkit.check.tokenizers import NO_ROW_TO_SPARE, Seen, TokenizerFacts
from hpkit.check.values import UNKNOWN

MODEL_CLASS = re.compile(
    r"transformers\.(\w+\.)*(AutoModel\w*|\w+For\w+|\w+LMHeadModel)\.from_pretrained"
)
#: Trainers of TRL that compare answers, reward them, or teach a model to.
OTHER_TRAINER = re.compile(r"\w*(DPO|ORPO|KTO|CPO|BCO|PPO|GRPO|RLOO|PRM|Reward)(v2)?Trainer")
WEIGHTS = {
    "torch.float16": "float16",
    "torch.half": "float16",
    "torch.bfloat16": "bfloat16",
    "torch.float32": "float32",
    "torch.float": "float32",
}
#: What shows that a file trains with Flax.
FLAX = "import jax"
#: Methods of a model that give its weights another format.
CASTS = {"half", "float", "bfloat16", "double"}
#: Calls that look at a model and leave it as it is.
HARMLESS = {"print", "len", "type", "isinstance", "str", "repr", "hasattr", "getattr"}


class CodeAround:
    """The facts of one file, by the names of `hpkit.preflight.Surroundings`."""

    def __init__(self, names: Names, expressions: Expressions):
        self._names = names
        self._value = expressions.value
        self._tokenizer = TokenizerFacts(names, expressions.value)
        self._rows_of = DataSets(names, expressions.value).of
        self._in_order = sorted(names.calls, key=position)
        self._trainers = [call for call in self._in_order if self._is_trainer(call)]
        self._adapters = AdapterFacts(names, expressions.value, self._trainers, self._tokenizer)

    def facts(self) -> dict[str, Seen]:
        """What is known, with its line; what is not known is left out."""
        looks = {
            "weights": self._weights,
            "weights_argument": self._weights_argument,
            "quantized": self._quantized,
            "frozen_weights": self._frozen_weights,
            "bits_argument": self._bits_argument,
            "streaming": self._streaming,
            "examples": self._examples,
            "pad_is_eos": self._tokenizer.pad_is_eos,
            "added_tokens": self._added_tokens,
            "rows_to_spare": self._rows_to_spare,
            "logits_kept": self._logits_kept,
            "metrics": self._metrics,
            "model_name": self._model_name,
            "other_loss": self._other_loss,
            "own_loop": self._own_loop,
            "named_checkpoint": self._named_checkpoint,
            "halves_swapped": self._halves_swapped,
        } | self._adapters.facts()
        found = {}
        for name, look in looks.items():
            seen = look()
            if seen is not None:
                found[name] = seen
        return found

    # Calls and their arguments.

    def _is_trainer(self, call: ast.Call) -> bool:
        path = self._names.path(call.func)
        name = path.rpartition(".")[2]
        return name.endswith("Trainer") and self._names.library(path) in ("transformers", "trl")

    def _of_one_trainer(self, *names: str) -> ast.expr | None:
        """What the file's only trainer is given under one of these names."""
        if len(self._trainers) != 1:
            return None
        return keyword(self._trainers[0], *names)

    # The model.

    def _model_loads(self) -> list[ast.Call]:
        return [c for c in self._in_order if MODEL_CLASS.fullmatch(self._names.path(c.func))]

    def _trained_load(self) -> ast.Call | None:
        """The call that loads the model that is trained, where the text tells which it is."""
        loads = self._model_loads()
        given = self._of_one_trainer("model")
        if given is None and len(self._trainers) == 1 and self._trainers[0].args:
            given = self._trainers[0].args[0]
        origin = self._names.origin(given)
        if origin in loads:
            return None if self._is_handed_on(given) else origin
        if given is not None and not isinstance(given, ast.Name):
            return None  # wrapped, or made by a function
        if isinstance(origin, ast.Call):
            return None
        # All of them into one variable: the last one counts.
        targets = {}
        for call in loads:
            above = self._names.parents[call]
            is_plain = isinstance(above, ast.Assign) and isinstance(above.targets[0], ast.Name)
            target = above.targets[0] if is_plain else None
            targets[getattr(target, "id", None)] = target
        if len(targets) == 1 and None not in targets and not self._is_handed_on(target):
            return loads[-1]
        return None

    def _is_handed_on(self, given: ast.expr) -> bool:
        """Does another call get the model, which may put an adapter on it or change its format?"""
        if not isinstance(given, ast.Name):
            return False
        for use in self._names.uses[given.id]:
            call = self._names.call_with(use)
            # A trainer of the file's own trains it as it is.
            if call is None or last_name(call).endswith("Trainer"):
                continue
            if self._names.path(call.func) not in HARMLESS:
                return True
        return False

    def _weights(self) -> Seen | None:
        load = self._trained_load()
        return None if load is None else self._format_of(load)

    def _weights_argument(self) -> Seen | None:
        """The word that the file has for the format: the new one, or the old."""
        load = self._trained_load()
        for part in load.keywords if load is not None else ():
            if part.arg in ("dtype", "torch_dtype"):
                return Seen(part.arg, part.value.lineno)
        return None

    def _frozen_weights(self) -> Seen | None:
        """In what the file's only model is loaded, where an adapter trains beside it."""
        loads = self._model_loads()
        if len(loads) != 1 or self._adapters.adapter() is None:
            return None
        return self._adapters.bits_of(loads[0]) or self._format_of(loads[0])

    def _format_of(self, load: ast.Call) -> Seen | None:
        """The format that a call loads a model in."""
        # A cast after loading changes it; which one comes last is not followed.
        for call in self._in_order:
            name = last_name(call)
            if name in CASTS or (name == "to" and "float" in ast.unparse(call)):
                return None
        given = keyword(load, "dtype", "torch_dtype")
        if given is None:
            return None
        written = self._value(given)
        if isinstance(written, str):
            named = written if written in WEIGHTS.values() else None
        else:
            node = self._names.origin(given)
            named = WEIGHTS.get(self._names.path(node)) if node is not None else None
        return Seen(named, given.lineno) if named else None

    def _quantized(self) -> Seen | None:
        load = self._trained_load()
        if load is None or not self._trainers or self._names.lost:
            return None
        unpacked = [part for call in self._trainers for part in call.keywords if part.arg is None]
        if unpacked or ".train_adapter" in self._names.words:
            return None
        return self._adapters.bits_of(load)

    def _bits_argument(self) -> Seen | None:
        for load in self._model_loads():
            for bits in ("load_in_4bit", "load_in_8bit"):
                given = keyword(load, bits)
                if given is not None and self._value(given) is True:
                    return Seen(bits, given.lineno)
        return None

    def _model_name(self) -> Seen | None:
        """The name that the trained model is loaded by, its adapters and sizes in it."""
        load = self._trained_load()
        given = load.args[0] if load is not None and load.args else None
        if given is None:
            given = self._of_one_trainer("model")
        value = self._value(given) if given is not None else UNKNOWN
        return Seen(value, given.lineno) if isinstance(value, str) else None

    def _other_loss(self) -> Seen | None:
        """A trainer that the file makes, itself or a class on it, whose loss imitates no text."""
        for call in self._in_order:
            if OTHER_TRAINER.fullmatch(last_name(call)):
                return Seen(last_name(call), call.lineno)
        for node in ast.walk(self._names.tree):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                name = self._names.path(base).rpartition(".")[2]
                if OTHER_TRAINER.fullmatch(name):
                    return Seen(name, node.lineno)
        return None

    def _own_loop(self) -> Seen | None:
        """What trains in place of a Trainer: Flax has none, and one's own loop calls backward."""
        if any(word.endswith("Trainer") for word in self._names.words):
            return None
        if {"import jax", "jax"} & self._names.words:
            return Seen(FLAX, 0)
        for call in self._in_order:
            if last_name(call) == "backward":
                return Seen("backward()", call.lineno)
        return None

    def _named_checkpoint(self) -> Seen | None:
        """`out/checkpoint-300`, wherever the file's code has it."""
        for node in ast.walk(self._names.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                is_remark = isinstance(self._names.parents[node], ast.Expr)
                named = re.search(r"\bcheckpoint-\d+", node.value)
                if named and not is_remark:
                    return Seen(named[0], node.lineno)
        return None

    def _halves_swapped(self) -> Seen | None:
        """`fp16=is_bfloat16_supported(), bf16=not is_bfloat16_supported()`."""
        for call in self._in_order:
            fp16 = keyword(call, "fp16")
            bf16 = keyword(call, "bf16")
            match fp16, bf16:
                case ast.Call(), ast.UnaryOp(op=ast.Not(), operand=ast.Call()):
                    asked = [ast.unparse(fp16), ast.unparse(bf16.operand)]
                    if all(re.search(r"bf(loat)?16_supported\(", text) for text in asked):
                        return Seen(True, fp16.lineno)
        return None

    # The data.

    def _training_rows(self) -> Rows | None:
        given = self._of_one_trainer("train_dataset")
        return None if given is None else self._rows_of(given)

    def _streaming(self) -> Seen | None:
        rows = self._training_rows()
        return Seen(True, rows.line) if rows and rows.is_stream else None

    def _examples(self) -> Seen | None:
        rows = self._training_rows()
        return Seen(rows.count, rows.line) if rows and rows.count else None

    # Tokens.

    def _added_tokens(self) -> Seen | None:
        return self._tokenizer.added_tokens() if self._trainers else None

    def _rows_to_spare(self) -> Seen | None:
        model = self._model_name()
        if model is None:  # then one that the file names is likely the one that is trained
            is_full = self._tokenizer.names_full_model()
        else:
            is_full = NO_ROW_TO_SPARE.search(model.value)
        return Seen(False, 0) if is_full else None

    # Metrics.

    def _logits_kept(self) -> Seen | None:
        load = self._trained_load()
        if load is None or "CausalLM" not in self._names.path(load.func):
            return None
        given = self._of_one_trainer("compute_metrics")
        trainer = self._trainers[0] if self._trainers else None
        if given is None or is_none(given) or last_name(trainer) != "Trainer":
            return None
        if keyword(trainer, "preprocess_logits_for_metrics") is not None:
            return None
        return Seen(f"compute_metrics={ast.unparse(given)[:40]}", given.lineno)

    def _metrics(self) -> Seen | None:
        """The names that compute_metrics returns; none of them where there is no such function."""
        if len(self._trainers) != 1:
            return None
        (trainer,) = self._trainers
        name = last_name(trainer)
        if name not in ("Trainer", "Seq2SeqTrainer") or any(
            p.arg is None for p in trainer.keywords
        ):
            return None
        rows = self._names.origin(keyword(trainer, "eval_dataset"))
        # Of several data sets each metric bears its set's name; and a trainer can get them later.
        has_several = isinstance(rows, (ast.Dict, ast.DictComp))
        is_set_later = "compute_metrics" in self._names.stored
        if len(trainer.args) > 5 or is_set_later or has_several:
            return None
        given = keyword(trainer, "compute_metrics")
        if given is None or is_none(given):
            return Seen((), trainer.lineno)
        function = self._names.only_value(given)
        if not isinstance(function, ast.FunctionDef):
            return None
        returned = [part.value for part in ast.walk(function) if isinstance(part, ast.Return)]
        keys = set()
        for value in returned:
            if not isinstance(value, ast.Dict):
                return None
            for key in value.keys:
                if not isinstance(key, ast.Constant):
                    return None
                keys.add(key.value)
        return Seen(tuple(sorted(keys)), given.lineno) if keys else None
