"""No value is ever told wrong: what is read is what Python passes, and what is not sure is left."""

import copy
import random
import sys
import types

import pytest

from hpkit.check import Call

from .examples import CLASSES, CONSTANTS, RUNNABLE
from .programs import SNIPPETS, ProgramWriter


class Recorder:
    """Runs a source with stand-ins for the libraries.

    They keep each call's keyword arguments under its line.
    """

    def __init__(self):
        self.seen = {}

    def stub(self, name):
        recorder = self

        class Stub:
            def __init__(self, *args, **kwargs):
                frame = sys._getframe(1)
                if args:
                    kwargs = {"output_dir": args[0], **kwargs}
                # A copy, since the program may go on to change what it passed.
                recorder.seen.setdefault(frame.f_lineno, []).append(copy.deepcopy(kwargs))

            def train(self):
                pass

        Stub.__name__ = name
        return Stub

    def run(self, source: str, monkeypatch, **names):
        names_of = [
            "TrainingArguments",
            "Seq2SeqTrainingArguments",
            "SFTConfig",
            "DPOConfig",
            "Trainer",
            "SFTTrainer",
        ]
        module = types.ModuleType("transformers")
        for name in names_of:
            setattr(module, name, self.stub(name))
        for name in ("transformers", "trl", "transformers.training_args"):
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(sys, "argv", ["train.py", *names.pop("argv", [])])
        # Programs reach their own names through `sys.modules["__main__"]`: not pytest's, please.
        world = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", world)
        world.__dict__.update(names)
        exec(compile(source, "train.py", "exec"), world.__dict__)
        return self.seen


def same(a, b) -> bool:
    # By type and writing: `==` takes 1, 1.0 and True for one value.
    return type(a) is type(b) and repr(a) == repr(b)


def check_truth(calls: list[Call], seen: dict, must_see: bool = True) -> int:
    """Every value told equals every value that Python passed at that line.

    Returns the number of values compared.
    """
    compared = 0
    for call in calls:
        assert call.line in seen or not must_see, f"line {call.line} was never called"
        for kwargs in seen.get(call.line, []):
            for name, value in call.arguments.items():
                assert name in kwargs and same(value, kwargs[name]), (
                    f"line {call.line}: {name}: told {value!r}, passed {kwargs.get(name)!r}"
                )
                compared += 1
            if not any(name.startswith("*") for name in call.unread):
                assert set(kwargs) <= set(call.arguments) | set(call.unread)
    return compared


@pytest.mark.parametrize("name", RUNNABLE)
def test_values_are_those_that_python_passes(name, read, monkeypatch):
    calls = read(RUNNABLE[name])
    argv = ["--model", "m"] if name == "argparse" else []
    seen = Recorder().run(
        RUNNABLE[name], monkeypatch, model=types.SimpleNamespace(eval=int), argv=argv
    )
    reached = [call for call in calls if call.name != "DPOConfig"]  # it stands in a dead branch
    assert check_truth(reached, seen) > 1


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_no_snippet_is_read_wrong(snippet, read, monkeypatch):
    source = "from transformers import TrainingArguments\n" + snippet
    calls = read(source)
    assert calls
    check_truth(calls, Recorder().run(source, monkeypatch), must_see=False)


@pytest.mark.slow
def test_random_programs_are_never_read_wrong(
    read, monkeypatch, programs: int = 300, seed: int = 5
):
    rng = random.Random(seed)
    compared = 0
    for _ in range(programs):
        source = ProgramWriter(rng).write()
        recorder = Recorder()
        try:
            recorder.run(source, monkeypatch)
        except (LookupError, NameError, TypeError, AttributeError, RuntimeError):
            pass  # what ran until then counts
        try:
            compared += check_truth(read(source), recorder.seen, must_see=False)
        except AssertionError as error:
            numbered = [f"{i:3} {line}" for i, line in enumerate(source.split("\n"), 1)]
            pytest.fail("\n".join([str(error), *numbered]))
    assert compared > programs  # something was told, so something was tested


def test_constants_mutations_and_nesting(read):
    common = {
        "optim": "adamw_8bit",
        "seed": 7,
        "weight_decay": 0.1,
        "warmup_steps": 5,
        "max_grad_norm": 0.3,
    }
    inner, seq, a, b = read(CONSTANTS)
    assert [call.name for call in (inner, seq, a, b)] == [
        "SFTConfig",
        "Seq2SeqTrainingArguments",
        "TrainingArguments",
        "DPOConfig",
    ]
    assert inner.arguments == {
        "output_dir": "inner",
        "learning_rate": 2e-4,
        "num_train_epochs": 3,
        "optim": "adamw_8bit",
    }
    assert set(inner.unread) == set(common) - {"optim"} | {
        "gone"
    }  # a function may run before the changes
    assert (
        seq.arguments
        == {
            "output_dir": "x",  # what all calls of `make` pass
            "learning_rate": 1e-4,
            "predict_with_generate": True,
        }
        and seq.unread == ()
    )
    assert a.arguments == {
        "output_dir": "out",
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 16,
        **common,
    }
    assert (
        a.lines["optim"] == 9
        and a.lines["weight_decay"] == 10
        and a.lines["learning_rate"] == a.line == 24
    )
    assert b.arguments == {**common, "beta": 0.1, "seed": 10}


def test_classes(read):
    a, b = read(CLASSES)
    assert a.arguments == {"eval_steps": 3, "max_steps": 3} and set(a.unread) == {
        "lr",
        "warmup",
        "wd",
    }
    assert (
        b.name == "MyTrainingArguments" and b.arguments == {"extra": 2} and b.unread == ("*args",)
    )
    (a,) = read(
        CLASSES[: CLASSES.index("@")]
        + "TrainingArguments(lr=CFG.lr, b=CFG.batch, n=CFG.names, s=CFG.seed)"
    )
    assert a.arguments == {"lr": 2e-4, "b": 8} and a.unread == ("n", "s")


@pytest.mark.parametrize(
    "source, told, unread",
    [
        ("T(bf16=torch.cuda.is_bf16_supported(), a=os.environ.get('X', '1'))", {}, ("bf16", "a")),
        ("x = 1\nif y:\n    x = 2\nT(x=x)", {}, ("x",)),
        ("x = 1\nif y:\n    raise ValueError\nT(x=x)", {"x": 1}, ()),
        ("kw = {'a': 1}\nif y:\n    kw['bf16'] = True\nT(**kw)", {"a": 1}, ("bf16",)),
        ("T(**kw, a=1)", {"a": 1}, ("**kw",)),
        ("T(**cfg['train'], **{'a': 1})", {"a": 1}, ("**cfg['train']",)),
        ("T(a=1, **{'a': 2, 'b': 3})", {"a": 1, "b": 3}, ()),
        ("T('out', 3, a=1)", {"output_dir": "out", "a": 1}, ("*args",)),
        ("T(*rest, a=1)", {"a": 1}, ("*args",)),
        (
            "T(a=10**10**10, b=2**70, c='x' * 10**12, d=9**9**9**9, e=1 / 0, f=(-8) ** 0.5)",
            {"b": 2**70},
            tuple("acdef"),
        ),
        (
            "T(a=[x for x in y], b=f'{z}', c=(w := 3), d=[*e], f={**g}, h=b'x', i=..., j=1j)",
            {},
            tuple("abcdfhij"),
        ),
        (
            "T(a=1e-4, c=~1, d=not 1, e=1 < 2, f=int('x'), g=2 if y else 2)",
            {"a": 1e-4, "d": False, "g": 2},
            tuple("cef"),
        ),
        ("LR = 1\nfrom config import *\nT(a=LR, b=2)", {"b": 2}, ("a",)),
        ("lr = 1\ndef f(lr):\n    T(a=lr)", {}, ("a",)),
        ("def f():\n    T(a=lr)\nlr = 1", {"a": 1}, ()),  # called sooner, it would be an error
        ("kw = {'a': 1}\nchange(kw)\nT(**kw)", {}, ("**kw",)),
        ("kw = {'a': 1}\nprint(kw)\nwandb.init(config=kw)\nT(**kw)\nlr = kw['a']", {"a": 1}, ()),
        ("c = {'t': {'lr': 1}, 'm': [2]}\nn = c['m']\nT(lr=c['t']['lr'])", {}, ("lr",)),
        (
            "c = {'t': {'lr': 1}, 'm': [2]}\nlen(c['m'])\nT(lr=c['t'].get('lr'), **c['t'])",
            {"lr": 1},
            (),
        ),
    ],
)
def test_what_is_told_and_what_is_not(source, told, unread, only):
    arguments, missing = only(source.replace("T(", "TrainingArguments("))
    assert same(arguments, told) and set(missing) == set(unread)


@pytest.mark.parametrize(
    "change",
    [
        'with open("x") as d["fp16"]: pass',
        '[x for x in d.pop("fp16")]',
        'def f(x=d.pop("fp16")): 0',
    ],
)
def test_a_change_in_a_node_without_a_line(change, read):
    """An item of a `with`, a loop of a comprehension, a default: Python gives them no line."""
    before = "from transformers import TrainingArguments\nd = dict(fp16=True, seed=1)\n"
    (call,) = read(f"{before}{change}\nTrainingArguments('out', **d)\n")
    assert call.arguments["seed"] == 1 and "fp16" in call.unread
