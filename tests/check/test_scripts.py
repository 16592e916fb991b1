"""Reading training arguments from scripts and notebooks: what is told, what is left unread, and that no value is ever wrong."""

import copy
import json
import random
import re
import sys
import types
from pathlib import Path

import pytest

from hpkit.check import Call, read_calls, scripts
from hpkit.errors import BadInput

PLAIN = """\
from transformers import Trainer, TrainingArguments

training_args = TrainingArguments(
    output_dir="./results", evaluation_strategy="epoch",
    learning_rate=2e-5,
    num_train_epochs=3, weight_decay=-0.01,
    lr_scheduler_kwargs={"num_cycles": 2}, label_names=["a" "b", "c"], betas=(0.9, 0.999),
    eval_steps=None, save_steps=10 * 50 + 2 ** 3 - 7 // 2 % 2, lr_end=1e-4 / 10,
    max_steps=int(8.0), adam_epsilon=float("1e-8"), push_to_hub=not True, run_name="a" + "b",
)
trainer = Trainer(model=model, args=training_args)
model.eval()
"""

UNSLOTH = """\
from trl import SFTTrainer
from transformers import TrainingArguments
from unsloth import is_bfloat16_supported

trainer = SFTTrainer(
    model = model,
    tokenizer = tokenizer,
    max_seq_length = max_seq_length,
    packing = False, # Can make training 5x faster for short sequences.
    args = TrainingArguments(
        per_device_train_batch_size = 2,
        learning_rate = 2e-4,
        fp16 = not torch.cuda.is_bf16_supported(),
        bf16 = is_bfloat16_supported(),
        optim = "adamw_8bit",
    ),
)
"""

CONSTANTS = """\
import transformers as t
from trl import SFTConfig as Config, DPOConfig
from transformers.training_args import TrainingArguments as TA
LR, EPOCHS = 1e-4, 3
BATCH: int = 8
SEED = 1
SEED = 42
BATCH *= 2
common = dict(optim="adamw_8bit", seed=SEED)
common["weight_decay"] = 0.1
common.update(warmup_steps=5)
common.update({"max_grad_norm": 0.3, "seed": 7})
common["gone"] = 1
del common["gone"]
config = {"train": {"lr": LR}, "epochs": EPOCHS}

def make(output):
    epochs = config["epochs"]
    def inner():
        lr = LR * 2
        return Config("inner", learning_rate=lr, num_train_epochs=epochs, **common)
    return inner(), t.Seq2SeqTrainingArguments(output, learning_rate=config["train"]["lr"], predict_with_generate=True)

a = TA("out", learning_rate=LR, per_device_train_batch_size=BATCH, **common)
b = DPOConfig(**{"beta": 0.1, "seed": SEED}, **{**common, "seed": 9} | {"seed": 10}) if False else None
for _ in range(2): make("x")
"""

ARGPARSE = """\
import argparse, sys
from transformers import TrainingArguments

def main():
    parser = argparse.ArgumentParser(description="fine-tune")
    parser.add_argument("--model", required=True)
    parser.add_argument("-l", "--learning-rate", "--lr", type=float, default="1e-4", help="LR")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--optim", default="adamw_8bit")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--no-shuffle", dest="shuffle", action="store_false")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--name", type=str.upper, default="x")
    args = parser.parse_args()
    args.warmup = 7
    return TrainingArguments(learning_rate=args.learning_rate, num_train_epochs=args.epochs, optim=args.optim, bf16=args.bf16,
        shuffle=args.shuffle, seed=args.seed, run_name=args.name, warmup_steps=args.warmup, model=args.model)

if __name__ == "__main__":
    main()
"""

MAIN_ARGS = """\
import argparse as ap
from transformers import TrainingArguments

def parse_args():
    parser = ap.ArgumentParser()
    group = parser.add_argument_group("training")
    group.add_argument("--lr", type=float, default=2e-5)
    group.add_argument("--flag", action=ap.BooleanOptionalAction, default=True)
    parser.add_argument("--steps", type=int, default=100)
    if True:
        parser.add_argument("--wd", type=float, default=0.1)
    args, _ = parser.parse_known_args()
    args.steps = 7
    return args

def main(args):
    print(vars(args), f"{args}")
    lr = args.lr
    return TrainingArguments(learning_rate=lr, bf16=args.flag, max_steps=args.steps, weight_decay=args.wd)

if __name__ == "__main__":
    args = parse_args()
    main(args)
"""

CLASSES = """\
from dataclasses import dataclass, field
import transformers

class CFG:
    lr = 1e-4 * 2
    batch: int = 8
    names = ["a"]
    seed = 4
    seed = 5

@dataclass
class Data:
    epochs: int = 3
    rate: int = field(default=7)

class Inherits(CFG):
    wd = 0.1

class Acts:
    warmup = 5
    def set(self):
        self.warmup = 6

class MyTrainingArguments(transformers.TrainingArguments):
    extra: int = 1

data, acts = Data(), Acts()
acts.set()
def train():
    return transformers.TrainingArguments(eval_steps=Data.epochs, max_steps=data.epochs, lr=data.rate, warmup=acts.warmup, wd=Inherits.wd)
train()
b = MyTrainingArguments("out", extra=2)
"""

RUNNABLE = {
    "constants": CONSTANTS,
    "argparse": ARGPARSE,
    "main": MAIN_ARGS,
    "classes": CLASSES,
    "plain": PLAIN,
}


def write(folder: Path, source: str | bytes, name: str = "train.py") -> Path:
    file = folder / name
    file.write_bytes(
        source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
    )
    return file


def notebook(folder: Path, *cells, **metadata) -> Path:
    """A notebook of code cells; a cell given as a tuple is Markdown, one given as a list keeps its list of lines."""
    made = [
        {"cell_type": "markdown", "source": c[0]}
        if isinstance(c, tuple)
        else {"cell_type": "code", "source": c}
        for c in cells
    ]
    return write(
        folder, json.dumps({"nbformat": 4, "metadata": metadata, "cells": made}), "train.ipynb"
    )


@pytest.fixture
def read(tmp_path):
    """`read(source)`: the calls of a script."""
    return lambda source: read_calls(write(tmp_path, source))[0]


@pytest.fixture
def only(read):
    """`only(source)`: (arguments, unread) of a script's single call."""

    def one(source: str):
        (call,) = read(source)
        return call.arguments, call.unread

    return one


# What Python itself passes


class Recorder:
    """Runs a source with stand-ins for the libraries that keep each call's keyword arguments under its line."""

    def __init__(self):
        self.seen = {}

    def stub(self, name):
        recorder = self

        class Stub:
            def __init__(self, *args, **kwargs):
                frame = sys._getframe(1)
                if args:
                    kwargs = {"output_dir": args[0], **kwargs}
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
        world = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", world)
        world.__dict__.update(names)
        exec(compile(source, "train.py", "exec"), world.__dict__)
        return self.seen


def same(a, b) -> bool:
    return type(a) is type(b) and repr(a) == repr(b)


def check_truth(calls: list[Call], seen: dict, must_see: bool = True) -> int:
    """Every value told equals every value that Python passed at that line. The number of values compared."""
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
    assert (
        check_truth([call for call in calls if call.name != "DPOConfig"], seen) > 1
    )  # that one is never reached


PARSER = "import argparse\np = argparse.ArgumentParser()\n"
SNIPPETS = [
    "x = 1\ny = x\nx = 2\nTrainingArguments(a=x, b=y)",
    "a, (b, c) = 1, (2, [3])\nTrainingArguments(a=a, b=b, c=c)",
    "a = {'x': 1}\nb = a\nb['x'] = 2\nTrainingArguments(**a)",
    "a = {'x': {'y': 1}}\nb = a['x']\nb['y'] = 2\nTrainingArguments(y=a['x']['y'])",
    "a = {'x': {'y': 1}}\nb = a.copy()\nb['x']['y'] = 2\nTrainingArguments(y=a['x']['y'])",
    "a = {'x': {'y': 1}, 'z': {'y': 1}}\nb = a['x']\nb['y'] = 2\nTrainingArguments(x=a['x']['y'], z=a['z']['y'])",
    "a = {'x': {'y': {}}}\ndef f():\n    for v in a['x'].values():\n        v['z'] = 3\nf()\nTrainingArguments(**a)",
    "a = {'x': [1]}\nlist(a.values())[0].append(3)\nTrainingArguments(**a)",
    "a = {'x': [1]}\nb = {**a}\nb['x'].append(2)\nTrainingArguments(**a)",
    "a = {'x': 1}\ndef f(d):\n    d['x'] = 2\nf(a)\nTrainingArguments(**a)",
    "a = {'x': 1}\ndef f():\n    a['x'] = 2\nf()\nTrainingArguments(**a)",
    "a = {'x': 1}\ndef f():\n    b = a\n    b['x'] = 2\nf()\nTrainingArguments(**a)",
    "a = {'x': 1}\nb = [a]\nb[0]['x'] = 2\nTrainingArguments(**a)",
    "a = 1\ndef f():\n    global a\n    a = 2\nf()\nTrainingArguments(a=a)",
    "a = 1\ndef f():\n    return TrainingArguments(a=a)\na = 2\nf()",
    "a = {'x': 1}\ndef f():\n    return TrainingArguments(**a)\na['x'] = 2\nf()",
    "def f():\n    a = {'x': 1}\n    def g():\n        a['x'] = 2\n    g()\n    TrainingArguments(**a)\nf()",
    "a = 1\nfor i in range(3):\n    TrainingArguments(a=a)\n    a = a * 2",
    "a = {'x': 1}\nfor i in range(3):\n    TrainingArguments(**a)\n    a['x'] = i",
    "a = {'x': 1}\nfor i in range(3):\n    TrainingArguments(**a)\n    b = a\n    b['x'] = i",
    "a = {'x': 1}\nfor k in 'xyz':\n    a[k] = 5\nTrainingArguments(**a)",
    "lr = 1\n[0 for lr in (5, 6)]\nTrainingArguments(lr=lr)",
    "lr = 1\n[(lr := i) for i in (5, 6)]\nTrainingArguments(lr=lr)",
    "[TrainingArguments(lr=lr) for lr in (1, 2)]",
    "lr = 1\nif input:\n    lr = 2\nTrainingArguments(lr=lr)",
    "a = {}\nif input:\n    a['x'] = 1\nelse:\n    a['x'] = 1\nTrainingArguments(**a)",
    "try:\n    a = 1\n    b = 1 / 0\n    a = 2\nexcept Exception:\n    pass\nTrainingArguments(a=a)",
    "a = 1\ntry:\n    a = 2\n    1 / 0\n    a = 3\nexcept Exception:\n    TrainingArguments(a=a)\nfinally:\n    TrainingArguments(b=a)",
    "import contextlib\na = 1\nwith contextlib.suppress(Exception):\n    1 / 0\n    a = 2\nTrainingArguments(a=a)",
    "a = 1\nexec('a = 2')\nTrainingArguments(a=a)",
    "a = 1\ndef f():\n    globals()['a'] = 2\nf()\nTrainingArguments(a=a)",
    "def f(a=1):\n    TrainingArguments(a=a)\nf(2)",
    "a = 1\ndef f():\n    if False:\n        a = 2\n    TrainingArguments(b=1)\nf()",
    "class C:\n    lr = 1\n    def __init__(self):\n        self.lr = 2\nTrainingArguments(lr=C().lr, b=C.lr)",
    "class C:\n    lr = 1\nc = C()\nc.__dict__['lr'] = 2\nTrainingArguments(lr=c.lr)",
    "class C:\n    lr = 1\n    def go(self):\n        self.lr = 2\nc = C()\nc.go()\nTrainingArguments(lr=c.lr)",
    "class C:\n    lr = 1\n    def f(self):\n        TrainingArguments(lr=lr)\nlr = 3\nC().f()",
    "class B:\n    lr = 3\nclass C(B):\n    x = 1\nTrainingArguments(lr=C.lr)",
    "class C:\n    lr = 1\ndef f(c):\n    c.lr = 2\nf(C)\nTrainingArguments(lr=C.lr)",
    "float = int\nTrainingArguments(a=float('3'))",
    "def float(x):\n    return 5\nTrainingArguments(a=float('3'))",
    "a = dict(x=1, y=[1])\na |= {'x': 2}\nTrainingArguments(**a)",
    "a = {'x': 1, 'y': 2}\na.pop('x')\nTrainingArguments(**a)",
    "a = {'x': 1}\ninput and a.update(x=2)\nTrainingArguments(**a)",
    "k = 'x'\na = {'x': 1, k: 2, **{'y': 1}}\nTrainingArguments(**a)",
    "k = str(input)[:0] + 'x'\na = {'x': 1, k: 2}\nTrainingArguments(**a)",
    "a = True\nTrainingArguments(x=a + 1, y=-a, z=2 ** -1, w=7 % -3, v=-7 // 2, u=1e400, t='a' 'b', s=(1,), r=0x10)",
    "a = 1\ndel a\na = 2\nTrainingArguments(a=a)",
    "a = [1, 2]\na[0] = 5\nTrainingArguments(a=a, b=a[1])",
    "a = [1]\nTrainingArguments(a=a)\na.append(2)\nTrainingArguments(b=a)",
    "f = lambda lr: TrainingArguments(lr=lr, x=1)\nf(3)",
    "x = 5\nf = lambda: TrainingArguments(x=x)\nf()\nx = 6\nf()",
    PARSER
    + "p.add_argument('--a', default=1)\np.set_defaults(a=2)\nTrainingArguments(a=p.parse_args().a)",
    PARSER
    + "p.add_argument('--a', default=1)\nx = p.parse_args(['--a', '5'])\nTrainingArguments(a=x.a)",
    PARSER + "p.add_argument('--a', dest='b', action='store_true')\n"
    "p.add_argument('--c', dest='b', action='store_false')\nx, _ = p.parse_known_args()\nTrainingArguments(a=x.b)",
    PARSER
    + "p.add_argument('--a-b', type=bool, default='')\np.add_argument('-c', type=int, default='7')\n"
    "x = p.parse_args([])\nTrainingArguments(a=x.a_b, c=x.c)",
    PARSER
    + "p.add_argument('--a', default=1)\nx = p.parse_args()\nvars(x)['a'] = 2\nTrainingArguments(a=x.a)",
    PARSER
    + "def add(q):\n    q.set_defaults(a=3)\np.add_argument('--a', default=1)\nadd(p)\nTrainingArguments(a=p.parse_args().a)",
    "def f(**kw):\n    TrainingArguments(**kw)\nf(a=1)",
    "a = 1\nb = 2 if input else 3\nc = 4 if input else 4\nTrainingArguments(a=a or 5, b=b, c=c, d=f'{a}', e=f'x')",
    "x = {'a': 1}\ny = dict(x, b=2)\ny['a'] = 3\nTrainingArguments(**x, c=y['a'], d=y.get('b'), e=y.get('zz', 9), f=y.get('q'))",
    "import sys\nlr = 1\nsys.modules['__main__'].__dict__\nTrainingArguments(lr=lr)",
    "d = {'x': {'y': 1}}\nd['x']['y'] = 2\nTrainingArguments(y=d['x']['y'])",
    "a = 1\ndef f(x=(a := 5)):\n    pass\nTrainingArguments(a=a)",
    "a = 1\ng = (TrainingArguments(a=a) for _ in 'x')\na = 2\nlist(g)",
    "d = {'x': 1}\ndef f(d=d):\n    d['x'] = 2\nf()\nTrainingArguments(**d)",
    "d = {'x': 1}\nd = {**d, 'y': [1]}\nb = d['y']\nb.append(2)\nTrainingArguments(**d)",
    "d = {'x': 1}\nif input:\n    d['x'] = 2\n    del d['x']\nTrainingArguments(**d)",
    "d = {}\nd['x'] = y = [1]\ny.append(2)\nTrainingArguments(**d)",
    "class C:\n    lr = 1\ndef f(c):\n    setattr(c, 'l' + 'r', 3)\nf(C)\nTrainingArguments(lr=C.lr)",
    "import builtins\nbuiltins.int = float\nTrainingArguments(a=int('1'))\nbuiltins.int = type(1)",
    PARSER
    + "p.add_argument('--a', default=1)\ndef f(x):\n    setattr(x, 'a', 2)\nx = p.parse_args()\nf(x)\nTrainingArguments(a=x.a)",
    PARSER
    + "p.add_argument('--a', default=1)\ndef f(x):\n    TrainingArguments(a=x.a)\nf(p.parse_args())\nf(argparse.Namespace(a=2))",
    PARSER
    + "p.add_argument('--a', default=1)\nx = p.parse_args()\nf = lambda x: TrainingArguments(a=x.a)\nf(argparse.Namespace(a=3))",
    PARSER
    + "if p:\n    p.add_argument('--a', default='1', type=lambda x: 7)\nTrainingArguments(a=p.parse_args().a)",
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_no_snippet_is_read_wrong(snippet, read, monkeypatch):
    source = "from transformers import TrainingArguments\n" + snippet
    calls = read(source)
    assert calls
    check_truth(calls, Recorder().run(source, monkeypatch), must_see=False)


STATEMENTS = """
{n} = {v} | {n} = {m} | {n} += 1 | {box}['{k}'] = {v} | {box}.update({k}={v}) | {box} = {{'x': {v}, 'w': {n}}} | {box} = {other}
{box} = dict({other}) | {box} = {{**{other}, 'z': {n}}} | {box}.pop('{k}', None) | touch({box}) | call() | other() | use(space)
{box}['q'] = {other}.copy() | for {n} in (1, 2): pass | note = [{n} for {n} in (7, 8)] | {box} |= {{'x': {v}}} | del {box}['{k}']
space.{k} = {v} | setattr(space, '{k}', 6) | vars(space)['{k}'] = 7 | K.{k} = {v} | obj.{k} = 8 | obj = K() | space = fresh()
p.set_defaults({k}=9) | alias = {box}; alias['x'] = 5 | len({box}) | (a := 4) | late = lambda: TrainingArguments(a=a, **{box}) | late()
alias = space; alias.y = 3 | alias = K; alias.x = 2 | {box}.setdefault('{k}', {v}) | {n} = {box}['y'] | {n}, {m} = {m}, {n}
alias = {box}['y']; alias['x'] = 3 | {box}['y']['x'] = 4 | swap({box}['y']) | {box} = {{'y': {other}, 'x': 1}} | del {n} | a = b = c = {v}
for v in {box}.values(): touch(v) | {n} = len({box}) | c: int = {v} | with suppress(KeyError): {box}['none']; {n} = 6 | use(K)
"""
CALLS = """
TrainingArguments(a=a, b=b, c=c, **{{k: v for k, v in {box}.items() if k == 'n'}}) | TrainingArguments(a=a, b=b, **{box})
TrainingArguments(x=space.x, y=space.y, z=space.z, c=c, w=K.x, v=obj.y) | TrainingArguments(a={box}.get('{k}', 0), b={box}['x'])
TrainingArguments(**{{**{box}, 'n': {n}}}) | TrainingArguments(y={box}['y'], x={box}['y']['x'])
"""
PREAMBLE = """\
import argparse
from contextlib import suppress
from transformers import TrainingArguments
a, b, c = 1, 2, 3
d, e = {'x': 1}, {'x': 4, 'y': {'x': 2}}
class K:
    x, y = 1, 2
    z = 3
p = argparse.ArgumentParser()
p.add_argument("--x", type=int, default="3")
p.add_argument("--y", default=4)
"""


def random_program(rng: random.Random) -> str:
    """A program of a few names, dicts, functions, a class and a parser, with branches and loops; it always ends."""
    kinds = rng.sample(re.split(r" \| |\n", STATEMENTS.strip()), rng.randint(1, 6))
    calls = re.split(r" \| |\n", CALLS.strip())
    lines = [
        PREAMBLE
        + rng.choice(
            [
                "p.add_argument('--z', default=5)",
                "p.add_argument('--q', dest='y', default=5)",
                "if b: p.add_argument('--z')",
            ]
        )
    ]

    def simple() -> str:
        n, m, k, (box, other) = (
            rng.choice("abc"),
            rng.choice("abc"),
            rng.choice("xyz"),
            rng.sample("de", 2),
        )
        value = rng.choice(
            [
                str(rng.randint(0, 3)),
                m,
                f"{m} + 1",
                f"d.get('{k}', 0)",
                f"{n} if {m} == 1 else {m}",
                "space.x",
                "K.x",
            ]
        )
        return rng.choice(rng.choice([kinds, calls])).format(
            n=n, m=m, k=k, box=box, other=other, v=value
        )

    def block(indent: str, size: int, depth: int):
        for _ in range(size):
            kind, inner = rng.random() if depth < 3 else 1, indent + "    "
            if kind < 0.12:
                lines.append(f"{indent}if {rng.choice('abc')} % 2:")
                block(inner, rng.randint(1, 3), depth + 1)
                if rng.random() < 0.5:
                    lines.append(f"{indent}else:")
                    block(inner, rng.randint(1, 3), depth + 1)
            elif kind < 0.2:
                lines.append(f"{indent}for i{depth} in range({rng.randint(0, 2)}):")
                block(inner, rng.randint(1, 4), depth + 1)
            elif kind < 0.28:
                lines.append(f"{indent}try:")
                block(inner, rng.randint(1, 3), depth + 1)
                lines.append(
                    f"{inner}{rng.choice(['1 / 0', 'pass'])}\n{indent}except ZeroDivisionError:"
                )
                block(inner, rng.randint(1, 2), depth + 1)
            else:
                lines.append(indent + simple())

    lines += ["def touch(t):", f"    {rng.choice(['pass', 't[chr(120)] = 9'])}", "swap = touch"]
    lines += [
        "def fresh():",
        rng.choice(["    return p.parse_args([])", "    space = p.parse_args()\n    return space"]),
    ]
    lines += [
        "def use(space):",
        f"    {rng.choice(['pass', 'space.x = 8', 'touch(vars(space))'])}",
        "    " + calls[2].format(n="a", box="d"),
    ]
    lines += [
        rng.choice(
            [
                "space = p.parse_args()",
                "space = fresh()",
                "space = p.parse_known_args()[0]",
                "space, _ = p.parse_known_args([])",
            ]
        )
    ]
    lines += [
        rng.choice(
            [
                "obj = K()",
                "obj = K()",
                "obj = K()",
                "obj = space",
                "obj = K",
                "obj = K(); space = p.parse_args(['--x', '8'])",
            ]
        )
    ]
    for name in ("call", "other"):
        lines += [
            f"def {name}():",
            f"    {rng.choice(['pass', 'pass', 'pass', 'global a', 'global d, b'])}",
        ]
        lines.append(
            "    "
            + rng.choice(
                [
                    "pass",
                    "pass",
                    "d['x'] = 8",
                    "e.update(x=8)",
                    "a = 8",
                    "m = e; m['x'] = 6",
                    "d = {'x': 4}; d['y'] = 5",
                ]
            )
        )
        block("    ", rng.randint(1, 3), 2)
    block("", 8, 0)
    lines.append(
        "TrainingArguments(a=a, b=b, c=c, **d)\nTrainingArguments(x=space.x, y=space.y, w=K.x, z=K.z, v=obj.y, **e)"
    )
    return "\n".join(lines)


@pytest.mark.slow
def test_random_programs_are_never_read_wrong(
    read, monkeypatch, programs: int = 300, seed: int = 5
):
    rng, compared = random.Random(seed), 0
    for _ in range(programs):
        source, recorder = random_program(rng), Recorder()
        try:
            recorder.run(source, monkeypatch)
        except (
            LookupError,
            NameError,
            TypeError,
            AttributeError,
            RecursionError,
            RuntimeError,
        ):  # what ran until then counts
            pass
        try:
            compared += check_truth(read(source), recorder.seen, must_see=False)
        except AssertionError as error:
            pytest.fail(
                f"{error}\n"
                + "\n".join(f"{i:3} {line}" for i, line in enumerate(source.split("\n"), 1))
            )
    assert compared > programs  # something was told, so something was tested


# Styles


def test_plain_keywords(read):
    (call,) = read(PLAIN)
    assert (call.cell, call.line, call.name, call.unread) == (None, 3, "TrainingArguments", ())
    assert call.arguments["evaluation_strategy"] == "epoch"  # gone from transformers, read as it is
    assert call.arguments["learning_rate"] == 2e-5 and call.arguments["weight_decay"] == -0.01
    assert call.arguments["eval_steps"] is None and call.arguments["push_to_hub"] is False
    assert (
        call.lines["num_train_epochs"] == call.lines["weight_decay"] == 6
        and call.lines["output_dir"] == 4
    )


def test_unsloth_and_conditional_precision(read):
    outer, inner = read(UNSLOTH)
    assert (outer.name, outer.line, outer.arguments) == ("SFTTrainer", 5, {"packing": False})
    assert set(outer.unread) == {"model", "tokenizer", "max_seq_length", "args"}
    assert (inner.name, inner.line, inner.lines["learning_rate"]) == ("TrainingArguments", 10, 12)
    assert inner.arguments["optim"] == "adamw_8bit" and inner.unread == ("fp16", "bf16")


def test_a_trainer_is_told_only_for_what_moved(read):
    assert read("Trainer(model=m, args=a, train_dataset=d)") == []
    (call,) = read("import trl\ntrl.SFTTrainer(m, args=a, packing=True)")
    assert call.arguments == {"packing": True} and set(call.unread) == {"args", "*args"}


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
    assert seq.arguments == {
        "learning_rate": 1e-4,
        "predict_with_generate": True,
    } and seq.unread == ("output_dir",)
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


def test_argparse_defaults(tmp_path):
    (call,), notes = read_calls(write(tmp_path, ARGPARSE))
    assert call.arguments == {
        "learning_rate": 1e-4,
        "num_train_epochs": 3,
        "optim": "adamw_8bit",
        "bf16": False,
        "shuffle": True,
    }
    assert set(call.unread) == {"seed", "run_name", "model", "warmup_steps"}
    assert (
        notes[0] == "line 7: --learning-rate: its default is read; the command line can change it"
        and len(notes) == 5
    )
    (call,), notes = read_calls(write(tmp_path, MAIN_ARGS))
    assert (
        call.arguments == {"learning_rate": 2e-5, "bf16": True}
        and call.unread == ("max_steps", "weight_decay")
        and len(notes) == 2
    )


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


def test_the_name_of_a_fallback_import_is_known(read):
    source = "try:\n    from trl import SFTConfig as C\nexcept ImportError:\n    C = None\nC(a=1)\n"
    source += "import transformers\nD = transformers.TrainingArguments\nD()"
    assert [call.name for call in read(source)] == ["SFTConfig", "TrainingArguments"]
    assert (
        read(
            "def make_TrainingArguments(): pass\nmake_TrainingArguments()\nMyConfig(a=1)\nlora = LoraConfig(r=8)"
        )
        == []
    )


def test_notes(tmp_path):
    source = "from transformers import HfArgumentParser as H\np = H(A)\nargs = TrainingArguments(seed=1)\nargs.seed = 2\n"
    calls, notes = read_calls(write(tmp_path, source))
    assert calls[0].arguments == {"seed": 1} and notes == [
        "line 2: HfArgumentParser reads values from the command line; they cannot be told from the file",
        "line 4: args.seed is set after the call; this value is not read",
    ]


def test_calls_come_in_reading_order(read):
    source = "def f():\n    TrainingArguments(seed=1)\nx = [TrainingArguments(seed=2),\n     SFTConfig(seed=3)]\n"
    source += "lambda: TrainingArguments(seed=4)\n"
    assert [(c.line, c.arguments["seed"]) for c in read(source)] == [(2, 1), (3, 2), (4, 3), (5, 4)]


# Notebooks

CELLS = [
    ("# A title",),
    "%%capture\n!pip install unsloth \\\n  trl 'x\nimport os\n%matplotlib inline\nLR = 2e-4\n",
    [
        "lr = LR\n",
        "%time x = 3\n",
        "files = !ls\n",
        "n = %sql select 'it''s\n",
        "text = '''\n",
        "%not magic\n",
        "'''\n",
        "LR?\n",
        "!nvidia-smi",
    ],
    "%%bash\npython train.py --args TrainingArguments(",
    "from transformers import TrainingArguments\nif True:\n    !ls {x}\n    %cd /tmp\ny = (7\n  % 4)\nkw = {\n 'seed': 1}",
    "lr = = 3",
    "await thing()\nargs = TrainingArguments(\n    'out', learning_rate=LR,\n    max_steps=x, logging_dir=text, eval_steps=y,\n"
    "    a=files, b=n, **kw)\n",
]


def test_a_notebook_with_magics(tmp_path):
    calls, notes = read_calls(
        notebook(tmp_path, *CELLS, kernelspec={"language": "python", "name": "python3"})
    )
    (call,) = calls
    assert (call.cell, call.line, call.name) == (7, 2, "TrainingArguments")
    told = {
        "output_dir": "out",
        "learning_rate": 2e-4,
        "max_steps": 3,
        "logging_dir": "\n%not magic\n",
        "eval_steps": 3,
        "seed": 1,
    }
    assert call.arguments == told and call.unread == ("a", "b")
    assert (
        call.lines["max_steps"] == 4 and call.lines["seed"] == call.line
    )  # `seed` stands in another cell
    assert notes[0] == "cell 4: %%bash is not Python of this notebook, passed over"
    assert notes[1].startswith("cell 6, line 1: syntax error, passed over: ") and len(notes) == 2


def test_a_passed_over_cell_makes_its_names_unknown(tmp_path):
    calls, notes = read_calls(
        notebook(tmp_path, "lr = 1\nseed = 2", "lr = = 3", "TrainingArguments(lr=lr, seed=seed)")
    )
    assert calls[0].arguments == {"seed": 2} and calls[0].unread == ("lr",) and len(notes) == 1


@pytest.mark.parametrize(
    "line",
    [
        "%run other.py",
        "%%capture lr",
        "%store -r lr",
        "from x import *",
        "lr = %env LR",
        "lr = !echo 3",
        "%time lr = f()",
    ],
)
def test_lines_that_may_set_a_name(line, tmp_path):
    calls, _ = read_calls(notebook(tmp_path, "lr = 1", line, "TrainingArguments(lr=lr)"))
    assert calls[0].unread == ("lr",)


@pytest.mark.parametrize(
    "line",
    [
        "%pip install x",
        "!echo lr = 3",
        "lr?",
        "?lr",
        "%%time",
        "%%html\n<b>lr</b>",
        "%load_ext autoreload",
        "  %cd x",
    ],
)
def test_lines_that_set_no_name(line, tmp_path):
    calls, notes = read_calls(notebook(tmp_path, "lr = 1", line, "TrainingArguments(lr=lr)"))
    assert calls[0].arguments == {"lr": 1} and calls[0].cell == 3 and notes == []


def test_an_empty_file_and_an_empty_notebook(tmp_path):
    assert (
        read_calls(write(tmp_path, ""))
        == read_calls(write(tmp_path, "\ufeff# %%\n"))
        == read_calls(notebook(tmp_path))
        == ([], [])
    )
    assert read_calls(notebook(tmp_path, "", [], "%%time", "%")) == ([], [])


# What cannot be read at all

CELL = '{"cells": [{"cell_type": "code", "source": %s}]}'


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("train.py", "x = 1\ny = = 2\n", "line 2: expected Python, got a syntax error"),
        ("train.py", b"x = '\xff'", "UTF-8"),
        ("train.py", "x = 1\0", "mend|remove"),
        (
            "train.py",
            "(" * 150 + ")" * 150 + "\n" + "-" * 50_000 + "1",
            "nested too deep|syntax error",
        ),
        ("train.py", "TrainingArguments(x=" + "1 + " * 5_000 + "1)", "nested too deep"),
        ("train.txt", "x = 1", r"\.py"),
        ("train", "x = 1", "no ending"),
        ("train.ipynb", "x = 1", "JSON"),
        ("train.ipynb", "[" * 100_000, "nested too deep|JSON"),
        ("train.ipynb", "[1]", "cells"),
        ("train.ipynb", '{"cells": {}}', "cells"),
        ("train.ipynb", '{"cells": [3]}', "cells"),
        ("train.ipynb", CELL % "3", "cell 1"),
        ("train.ipynb", CELL % "[3]", "cell 1"),
        ("train.ipynb", '{"worksheets": [], "nbformat": 3}', "format 3"),
        ("train.ipynb", '{"cells": [], "metadata": {"kernelspec": {"language": "R"}}}', "in R"),
        (
            "train.ipynb",
            '{"cells": [], "metadata": {"kernelspec": 3, "language_info": {"name": "julia"}}}',
            "in julia",
        ),
    ],
)
def test_bad_input_is_one_line(name, content, words, tmp_path):
    with pytest.raises(BadInput, match=words) as error:
        read_calls(write(tmp_path, content, name))
    assert "\n" not in str(error.value) and name in str(error.value)


def test_missing_files_and_folders(tmp_path):
    (tmp_path / "folder.py").mkdir()
    for path, words in (
        (tmp_path / "no.py", "no such file"),
        (tmp_path / "folder.py", "folder"),
        ("a\0.py", "path"),
    ):
        with pytest.raises(BadInput, match=words):
            read_calls(path)


def test_reading_never_runs_the_file(tmp_path):
    mark = tmp_path / "mark"
    source = f"open({str(mark)!r}, 'w').write('run')\nTrainingArguments(output_dir=open({str(mark)!r}, 'w'))\n"
    assert read_calls(write(tmp_path, source))[0][0].unread == ("output_dir",)
    assert read_calls(notebook(tmp_path, source, f"!touch {mark}"))[0]
    assert not mark.exists()


# Robustness


def mutations(text: str, rng: random.Random, count: int):
    lines = text.split("\n")
    for _ in range(count):
        kind, i, j = rng.randrange(4), rng.randrange(len(text)), rng.randrange(len(text))
        if kind == 0:
            yield text[:i]
        elif kind == 1:
            k = rng.randrange(len(lines))
            yield "\n".join(lines[:k] + lines[k + 1 :])
        elif kind == 2:
            changed = list(text)
            changed[i], changed[j] = changed[j], changed[i]
            yield "".join(changed)
        else:
            yield text[:i] + rng.choice("()[]{}'\"\\%!?:=\0\n\t*#é\ud800") + text[i:]


def test_damaged_files_raise_nothing_but_bad_input(tmp_path):
    rng, read = random.Random(3), 0
    whole = notebook(tmp_path, *CELLS).read_text()
    for source in (PLAIN, UNSLOTH, CONSTANTS, ARGPARSE, CLASSES, whole):
        for text in mutations(source, rng, 60):
            for file in (
                (write(tmp_path, text, "train.ipynb"),)
                if source is whole
                else (write(tmp_path, text), notebook(tmp_path, text))
            ):
                try:
                    calls, notes = read_calls(file)
                except BadInput as error:
                    assert "\n" not in str(error)
                    continue
                read += 1
                assert all(isinstance(call, Call) and call.line >= 1 for call in calls) and all(
                    "\n" not in note for note in notes
                )
    assert read > 300


def test_it_needs_only_the_standard_library():
    source = Path(scripts.__file__).read_text()
    imported = [
        line.split()[1].partition(".")[0]
        for line in source.split("\n")
        if line.startswith(("import ", "from "))
    ]
    assert set(imported) <= sys.stdlib_module_names | {"hpkit"}


@pytest.mark.parametrize(
    "source, drawn",
    [
        (
            "from transformers import AutoModelForTokenClassification as A\nm = A.from_pretrained('x')",
            "AutoModelForTokenClassification.from_pretrained (line 2)",
        ),
        (
            "from transformers import LlamaConfig, LlamaForCausalLM\nm = LlamaForCausalLM(LlamaConfig())",
            "LlamaForCausalLM (line 2)",
        ),
        (
            "import transformers\nm = transformers.AutoModelForCausalLM.from_config(c)",
            "AutoModelForCausalLM.from_config (line 2)",
        ),
        ("from peft import get_peft_model\nm = get_peft_model(m, c)", "get_peft_model (line 2)"),
        ("import torch, transformers as t\ntorch.manual_seed(1)\nm = t.BertModel(c)", None),
        ("import transformers as t\nm = t.BertModel(c)\nt.set_seed(1)", "BertModel (line 2)"),
        (
            "import transformers as t\ndef init():\n    return t.BertModel(c)\nTrainer(model_init=init)",
            None,
        ),
        (
            "from transformers import AutoModelForCausalLM as A\nm = A.from_pretrained('x')",
            None,
        ),  # all its weights are in the file
        ("from transformers import DataCollatorForLanguageModeling as D\nd = D(t)", None),
        (
            "from unsloth import FastLanguageModel as F\nm = F.get_peft_model(m, random_state=1)",
            None,
        ),
    ],
)
def test_random_weights_before_a_seed(source, drawn, read):
    (call,) = read(source + "\nTrainingArguments(seed=1)")
    assert call.unseeded == drawn
