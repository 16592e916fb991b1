"""Programs that try to mislead the reading of files, fixed ones and random ones."""

import random
import re

PARSER = "import argparse\np = argparse.ArgumentParser()\n"
SNIPPETS = [
    "x = 1\ny = x\nx = 2\nTrainingArguments(a=x, b=y)",
    "a, (b, c) = 1, (2, [3])\nTrainingArguments(a=a, b=b, c=c)",
    "a = {'x': 1}\nb = a\nb['x'] = 2\nTrainingArguments(**a)",
    "a = {'x': {'y': 1}}\nb = a['x']\nb['y'] = 2\nTrainingArguments(y=a['x']['y'])",
    "a = {'x': {'y': 1}}\nb = a.copy()\nb['x']['y'] = 2\nTrainingArguments(y=a['x']['y'])",
    "a = {'x': {'y': 1}, 'z': {'y': 1}}\nb = a['x']\nb['y'] = 2\n"
    "TrainingArguments(x=a['x']['y'], z=a['z']['y'])",
    "a = {'x': {'y': {}}}\ndef f():\n    for v in a['x'].values():\n"
    "        v['z'] = 3\nf()\nTrainingArguments(**a)",
    "a = {'x': [1]}\nlist(a.values())[0].append(3)\nTrainingArguments(**a)",
    "a = {'x': [1]}\nb = {**a}\nb['x'].append(2)\nTrainingArguments(**a)",
    "a = {'x': 1}\ndef f(d):\n    d['x'] = 2\nf(a)\nTrainingArguments(**a)",
    "a = {'x': 1}\ndef f():\n    a['x'] = 2\nf()\nTrainingArguments(**a)",
    "a = {'x': 1}\ndef f():\n    b = a\n    b['x'] = 2\nf()\nTrainingArguments(**a)",
    "a = {'x': 1}\nb = [a]\nb[0]['x'] = 2\nTrainingArguments(**a)",
    "a = 1\ndef f():\n    global a\n    a = 2\nf()\nTrainingArguments(a=a)",
    "a = 1\ndef f():\n    return TrainingArguments(a=a)\na = 2\nf()",
    "a = {'x': 1}\ndef f():\n    return TrainingArguments(**a)\na['x'] = 2\nf()",
    "def f():\n    a = {'x': 1}\n    def g():\n        a['x'] = 2\n    g()\n"
    "    TrainingArguments(**a)\nf()",
    "a = 1\nfor i in range(3):\n    TrainingArguments(a=a)\n    a = a * 2",
    "a = {'x': 1}\nfor i in range(3):\n    TrainingArguments(**a)\n    a['x'] = i",
    "a = {'x': 1}\nfor i in range(3):\n    TrainingArguments(**a)\n    b = a\n    b['x'] = i",
    "a = {'x': 1}\nfor k in 'xyz':\n    a[k] = 5\nTrainingArguments(**a)",
    "lr = 1\n[0 for lr in (5, 6)]\nTrainingArguments(lr=lr)",
    "lr = 1\n[(lr := i) for i in (5, 6)]\nTrainingArguments(lr=lr)",
    "[TrainingArguments(lr=lr) for lr in (1, 2)]",
    "lr = 1\nif input:\n    lr = 2\nTrainingArguments(lr=lr)",
    "a = {}\nif input:\n    a['x'] = 1\nelse:\n    a['x'] = 1\nTrainingArguments(**a)",
    "try:\n    a = 1\n    b = 1 / 0\n    a = 2\nexcept Exception:\n    pass\n"
    "TrainingArguments(a=a)",
    "a = 1\ntry:\n    a = 2\n    1 / 0\n    a = 3\nexcept Exception:\n"
    "    TrainingArguments(a=a)\nfinally:\n    TrainingArguments(b=a)",
    "import contextlib\na = 1\nwith contextlib.suppress(Exception):\n    1 / 0\n"
    "    a = 2\nTrainingArguments(a=a)",
    "a = 1\nexec('a = 2')\nTrainingArguments(a=a)",
    "a = 1\ndef f():\n    globals()['a'] = 2\nf()\nTrainingArguments(a=a)",
    "def f(a=1):\n    TrainingArguments(a=a)\nf(2)",
    "a = 1\ndef f():\n    if False:\n        a = 2\n    TrainingArguments(b=1)\nf()",
    "class C:\n    lr = 1\n    def __init__(self):\n        self.lr = 2\n"
    "TrainingArguments(lr=C().lr, b=C.lr)",
    "class C:\n    lr = 1\nc = C()\nc.__dict__['lr'] = 2\nTrainingArguments(lr=c.lr)",
    "class C:\n    lr = 1\n    def go(self):\n        self.lr = 2\nc = C()\nc.go()\n"
    "TrainingArguments(lr=c.lr)",
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
    "a = True\n"
    "TrainingArguments(x=a + 1, y=-a, z=2 ** -1, w=7 % -3, v=-7 // 2, "
    "u=1e400, t='a' 'b', s=(1,), r=0x10)",
    "a = 1\ndel a\na = 2\nTrainingArguments(a=a)",
    "a = [1, 2]\na[0] = 5\nTrainingArguments(a=a, b=a[1])",
    "a = [1]\nTrainingArguments(a=a)\na.append(2)\nTrainingArguments(b=a)",
    "f = lambda lr: TrainingArguments(lr=lr, x=1)\nf(3)",
    "x = 5\nf = lambda: TrainingArguments(x=x)\nf()\nx = 6\nf()",
    PARSER + "p.add_argument('--a', default=1)\np.set_defaults(a=2)\n"
    "TrainingArguments(a=p.parse_args().a)",
    PARSER + "p.add_argument('--a', default=1)\nx = p.parse_args(['--a', '5'])\n"
    "TrainingArguments(a=x.a)",
    PARSER + "p.add_argument('--a', dest='b', action='store_true')\n"
    "p.add_argument('--c', dest='b', action='store_false')\n"
    "x, _ = p.parse_known_args()\nTrainingArguments(a=x.b)",
    PARSER + "p.add_argument('--a-b', type=bool, default='')\n"
    "p.add_argument('-c', type=int, default='7')\nx = p.parse_args([])\n"
    "TrainingArguments(a=x.a_b, c=x.c)",
    PARSER + "p.add_argument('--a', default=1)\nx = p.parse_args()\nvars(x)['a'] = 2\n"
    "TrainingArguments(a=x.a)",
    PARSER + "def add(q):\n    q.set_defaults(a=3)\np.add_argument('--a', default=1)\nadd(p)\n"
    "TrainingArguments(a=p.parse_args().a)",
    "def f(**kw):\n    TrainingArguments(**kw)\nf(a=1)",
    "a = 1\nb = 2 if input else 3\nc = 4 if input else 4\n"
    "TrainingArguments(a=a or 5, b=b, c=c, d=f'{a}', e=f'x')",
    "x = {'a': 1}\ny = dict(x, b=2)\ny['a'] = 3\n"
    "TrainingArguments(**x, c=y['a'], d=y.get('b'), e=y.get('zz', 9), f=y.get('q'))",
    "import sys\nlr = 1\nsys.modules['__main__'].__dict__\nTrainingArguments(lr=lr)",
    "d = {'x': {'y': 1}}\nd['x']['y'] = 2\nTrainingArguments(y=d['x']['y'])",
    "a = 1\ndef f(x=(a := 5)):\n    pass\nTrainingArguments(a=a)",
    "a = 1\ng = (TrainingArguments(a=a) for _ in 'x')\na = 2\nlist(g)",
    "d = {'x': 1}\ndef f(d=d):\n    d['x'] = 2\nf()\nTrainingArguments(**d)",
    "d = {'x': 1}\nd = {**d, 'y': [1]}\nb = d['y']\nb.append(2)\nTrainingArguments(**d)",
    "d = {'x': 1}\nif input:\n    d['x'] = 2\n    del d['x']\nTrainingArguments(**d)",
    "d = {}\nd['x'] = y = [1]\ny.append(2)\nTrainingArguments(**d)",
    "class C:\n    lr = 1\ndef f(c):\n    setattr(c, 'l' + 'r', 3)\nf(C)\n"
    "TrainingArguments(lr=C.lr)",
    "import builtins\nbuiltins.int = float\nTrainingArguments(a=int('1'))\nbuiltins.int = type(1)",
    PARSER + "p.add_argument('--a', default=1)\ndef f(x):\n    setattr(x, 'a', 2)\n"
    "x = p.parse_args()\nf(x)\nTrainingArguments(a=x.a)",
    PARSER + "p.add_argument('--a', default=1)\ndef f(x):\n    TrainingArguments(a=x.a)\n"
    "f(p.parse_args())\nf(argparse.Namespace(a=2))",
    PARSER + "p.add_argument('--a', default=1)\nx = p.parse_args()\n"
    "f = lambda x: TrainingArguments(a=x.a)\nf(argparse.Namespace(a=3))",
    PARSER + "if p:\n    p.add_argument('--a', default='1', type=lambda x: 7)\n"
    "TrainingArguments(a=p.parse_args().a)",
]
STATEMENTS = """
{n} = {v} | {n} = {m} | {n} += 1 | {box}['{k}'] = {v} | {box}.update({k}={v})
{box} = {{'x': {v}, 'w': {n}}} | {box} = {other} | {box} = dict({other})
{box} = {{**{other}, 'z': {n}}} | {box}.pop('{k}', None) | touch({box}) | call() | other()
use(space) | {box}['q'] = {other}.copy() | for {n} in (1, 2): pass
note = [{n} for {n} in (7, 8)] | {box} |= {{'x': {v}}} | del {box}['{k}'] | space.{k} = {v}
setattr(space, '{k}', 6) | vars(space)['{k}'] = 7 | K.{k} = {v} | obj.{k} = 8 | obj = K()
space = fresh() | p.set_defaults({k}=9) | alias = {box}; alias['x'] = 5 | len({box}) | (a := 4)
late = lambda: TrainingArguments(a=a, **{box}) | late() | alias = space; alias.y = 3
alias = K; alias.x = 2 | {box}.setdefault('{k}', {v}) | {n} = {box}['y'] | {n}, {m} = {m}, {n}
alias = {box}['y']; alias['x'] = 3 | {box}['y']['x'] = 4 | swap({box}['y'])
{box} = {{'y': {other}, 'x': 1}} | del {n} | a = b = c = {v} | for v in {box}.values(): touch(v)
{n} = len({box}) | c: int = {v} | with suppress(KeyError): {box}['none']; {n} = 6 | use(K)
"""
CALLS = """
TrainingArguments(a=a, b=b, c=c, **{{k: v for k, v in {box}.items() if k == 'n'}})
TrainingArguments(a=a, b=b, **{box})
TrainingArguments(x=space.x, y=space.y, z=space.z, c=c, w=K.x, v=obj.y)
TrainingArguments(a={box}.get('{k}', 0), b={box}['x'])
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


class ProgramWriter:
    """Writes a program of a few names, dicts, functions, a class and a parser; it always ends."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        # Few kinds of statement a program, so that what they do to each other comes up often.
        self.kinds = rng.sample(re.split(r" \| |\n", STATEMENTS.strip()), rng.randint(1, 6))
        self.calls = re.split(r" \| |\n", CALLS.strip())
        self.lines = []

    def pick(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def write(self) -> str:
        option = self.pick(
            "p.add_argument('--z', default=5)",
            "p.add_argument('--q', dest='y', default=5)",
            "if b: p.add_argument('--z')",
        )
        self.lines.append(PREAMBLE + option)
        self.add_functions()
        self.add_namespace()
        self.add_changing_function("call")
        self.add_changing_function("other")
        self.add_block("", 8, 0)
        self.lines.append("TrainingArguments(a=a, b=b, c=c, **d)")
        self.lines.append("TrainingArguments(x=space.x, y=space.y, w=K.x, z=K.z, v=obj.y, **e)")
        return "\n".join(self.lines)

    def statement(self) -> str:
        """A statement or a call, with names and a value put into it."""
        rng = self.rng
        n = rng.choice("abc")
        m = rng.choice("abc")
        k = rng.choice("xyz")
        box, other = rng.sample("de", 2)
        value = self.pick(
            str(rng.randint(0, 3)),
            m,
            f"{m} + 1",
            f"d.get('{k}', 0)",
            f"{n} if {m} == 1 else {m}",
            "space.x",
            "K.x",
        )
        template = rng.choice(rng.choice([self.kinds, self.calls]))
        return template.format(n=n, m=m, k=k, box=box, other=other, v=value)

    def add_block(self, indent: str, size: int, depth: int):
        """Statements, some of them in branches, loops and `try` of at most three levels."""
        for _ in range(size):
            kind = self.rng.random() if depth < 3 else 1
            if kind < 0.12:
                self.add_branch(indent, depth)
            elif kind < 0.2:
                self.lines.append(f"{indent}for i{depth} in range({self.rng.randint(0, 2)}):")
                self.add_block(indent + "    ", self.rng.randint(1, 4), depth + 1)
            elif kind < 0.28:
                self.add_try(indent, depth)
            else:
                self.lines.append(indent + self.statement())

    def add_branch(self, indent: str, depth: int):
        rng = self.rng
        self.lines.append(f"{indent}if {rng.choice('abc')} % 2:")
        self.add_block(indent + "    ", rng.randint(1, 3), depth + 1)
        if rng.random() < 0.5:
            self.lines.append(f"{indent}else:")
            self.add_block(indent + "    ", rng.randint(1, 3), depth + 1)

    def add_try(self, indent: str, depth: int):
        rng = self.rng
        inner = indent + "    "
        self.lines.append(f"{indent}try:")
        self.add_block(inner, rng.randint(1, 3), depth + 1)
        self.lines.append(inner + self.pick("1 / 0", "pass"))
        self.lines.append(f"{indent}except ZeroDivisionError:")
        self.add_block(inner, rng.randint(1, 2), depth + 1)

    def add_functions(self):
        """Functions that are given a dict or a namespace, and one that makes a namespace."""
        self.lines.append("def touch(t):")
        self.lines.append("    " + self.pick("pass", "t[chr(120)] = 9"))
        self.lines.append("swap = touch")
        self.lines.append("def fresh():")
        self.lines.append(
            self.pick("    return p.parse_args([])", "    space = p.parse_args()\n    return space")
        )
        self.lines.append("def use(space):")
        self.lines.append("    " + self.pick("pass", "space.x = 8", "touch(vars(space))"))
        self.lines.append("    " + self.calls[2].format(n="a", box="d"))

    def add_namespace(self):
        self.lines.append(
            self.pick(
                "space = p.parse_args()",
                "space = fresh()",
                "space = p.parse_known_args()[0]",
                "space, _ = p.parse_known_args([])",
            )
        )
        self.lines.append(
            self.pick(
                "obj = K()",
                "obj = K()",
                "obj = K()",
                "obj = space",
                "obj = K",
                "obj = K(); space = p.parse_args(['--x', '8'])",
            )
        )

    def add_changing_function(self, name: str):
        """A function without parameters that may change names and dicts of the module."""
        self.lines.append(f"def {name}():")
        self.lines.append("    " + self.pick("pass", "pass", "pass", "global a", "global d, b"))
        self.lines.append(
            "    "
            + self.pick(
                "pass",
                "pass",
                "d['x'] = 8",
                "e.update(x=8)",
                "a = 8",
                "m = e; m['x'] = 6",
                "d = {'x': 4}; d['y'] = 5",
            )
        )
        self.add_block("    ", self.rng.randint(1, 3), 2)
