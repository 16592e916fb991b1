"""Training arguments as written in a Python script or notebook, read without running or importing it.

A name's value is looked up where it is asked for, in the one assignment that can have given it. Where a branch, a loop, a call or a
second name for one dict leaves a doubt, the value is UNKNOWN: no value is better than a wrong one.
"""

import ast
import builtins
import operator
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hpkit.check.cells import Source, nesting_is_bad_input, read_source

TRL = "SFT DPO ORPO KTO CPO GRPO PPO Reward RLOO OnlineDPO PRM BCO GKD XPO NashMD IterativeSFT"
CONFIGS = {f"{name}Config" for name in TRL.split()}
#: Arguments that older trainers took themselves; a trainer's call is of interest only where it has one of them.
TRAINERS = {"max_seq_length", "packing", "dataset_num_proc", "tokenizer", "dataset_text_field"}
CASTS = {"int": int, "float": float, "str": str, "bool": bool}
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
OPERATORS |= {ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow}
#: Calls that only look at a dict or list, and those that keep what lies inside it.
PURE = set(
    "print len str repr type isinstance bool json.dumps json.dump pprint.pprint wandb.init dataclasses.asdict".split()
)
COPIES = set("dict list tuple set sorted enumerate max min sum".split())
#: Words (attributes with a dot) after which any name may hold anything, and those after which any attribute may.
WILD = {
    "exec",
    "eval",
    "globals",
    "locals",
    "__builtins__",
    "__main__",
    "builtins",
    "import *",
    ".__globals__",
    ".f_globals",
}
WILD |= {"sys.modules", ".f_locals", ".run_line_magic", ".run_cell", ".run_cell_magic"}
SETTERS = {"setattr", "delattr", ".__dict__", ".__setattr__"}
PARSER = {"description", "prog", "usage", "epilog", "formatter_class", "allow_abbrev", "add_help"}
RISKS = {".set_defaults", ".add_subparsers", ".register"}
SCOPES = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
#: What stands inside these may run later, or more than once.
NESTED = (*SCOPES, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
#: Statements that bind a name for certain where they are reached.
SIMPLE = (
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Import,
    ast.ImportFrom,
    ast.arguments,
    *SCOPES,
)
UNKNOWN = type("Unknown", (), {"__repr__": lambda self: "unknown"})()
#: What draws random weights: models made from a config, heads that a pre-trained model gets, adapters.
DRAWS = re.compile(
    r"transformers\.(.*\.from_config|(?!Auto|DataCollator)\w+(Model|For[A-Z]\w+)|AutoModelFor\w*(Classification|Answering|Choice)\.from_pretrained)"
)
SEEDERS = {"set_seed", "manual_seed", "seed_everything", "enable_full_determinism"}


@dataclass(frozen=True)
class Call:
    """A call that sets training arguments. Lines count from 1: within the cell of a notebook, or within the script.

    `file` is the path as given, `cell` the number of the code cell among all cells from 1 (None in a script), `name` the last part
    of the callable's name with import aliases undone. `arguments` maps a name to its value where the text tells it; `unread` names the
    others, an unpacked mapping as "**name" and positional arguments as "*args". `lines` maps an argument to where it is written.
    `unseeded`: what draws random weights in this file before a seed is set, None where nothing does.
    """

    file: str
    cell: int | None
    line: int
    name: str
    arguments: dict
    unread: tuple[str, ...]
    lines: dict
    unseeded: str | None


# A dict is kept as key -> (value, line), so that each argument is known with the line on which it is written.


def _parts(value) -> list:
    return (
        [part for part, _ in value.values()]
        if isinstance(value, dict)
        else [*value]
        if isinstance(value, (list, tuple))
        else []
    )


def _leaf(value) -> bool:
    """Can nobody change it in place? What is unknown stays so, whatever is done to it."""
    return not isinstance(value, (dict, list)) and all(map(_leaf, _parts(value)))


def _plain(value):
    """The Python value, or UNKNOWN where any part of it is not known."""
    parts = [_plain(part) for part in _parts(value)]
    if any(part is UNKNOWN for part in parts):
        return UNKNOWN
    return (
        dict(zip(value, parts))
        if isinstance(value, dict)
        else type(value)(parts)
        if isinstance(value, (list, tuple))
        else value
    )


def _part(value, key):
    try:
        return (
            value[key][0]
            if isinstance(value, dict)
            else value[key]
            if isinstance(value, (list, tuple))
            else UNKNOWN
        )
    except (LookupError, TypeError):
        return UNKNOWN


def _arithmetic(op, a, b):
    """a op b for numbers, and + for texts; UNKNOWN where it would fail or grow large."""
    try:
        if (
            isinstance(a, str)
            and isinstance(b, str)
            and type(op) is ast.Add
            and len(a) + len(b) < 10_000
        ):
            return a + b
        if isinstance(a, int) and isinstance(b, int):
            if (
                a.bit_length() * abs(b) if type(op) is ast.Pow else a.bit_length() + b.bit_length()
            ) > 4096:
                return UNKNOWN
        known = (
            isinstance(a, (int, float)) and isinstance(b, (int, float)) and type(op) in OPERATORS
        )
        value = OPERATORS[type(op)](a, b) if known else UNKNOWN
        return value if isinstance(value, (int, float)) else UNKNOWN
    except ArithmeticError:
        return UNKNOWN


def _cast(kind: str, value):
    """int("8"), float("1e-4"), str(3), bool(0): as Python does it."""
    try:
        return (
            CASTS[kind](value)
            if kind in CASTS and isinstance(value, (int, float, str))
            else UNKNOWN
        )
    except (ValueError, OverflowError):
        return UNKNOWN


def _position(node) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


class _Reader:
    """The whole tree: who binds and who uses each name, and what an expression is worth.

    `bound`: name -> scope -> [(node, value)]. The value is an expression, an import's dotted path, a definition, a parameter, or None
    for anything else. `uses`: name -> where it is read, in the whole file. `lost`: names that may hold anything.
    """

    def __init__(self, tree: ast.Module, lost: list):
        self.tree, self.lost, self.words, self.stores, self.calls, self.own = (
            tree,
            set(lost),
            set(lost),
            [],
            [],
            set(),
        )
        self.parents, self.scopes, self.given, self.memo, self.notes = (
            {},
            {tree: None},
            {},
            {},
            set(),
        )
        self.bound, self.uses = defaultdict(lambda: defaultdict(list)), defaultdict(list)
        todo = [tree]
        for node in todo:  # grows, each node after its parent
            self.see(node, self.scopes[node])
            for child in ast.iter_child_nodes(node):
                self.parents[child], self.scopes[child] = (
                    node,
                    node if isinstance(node, SCOPES) else self.scopes[node],
                )
                todo.append(child)
        self.wild, self.stored = (
            bool(self.words & WILD),
            {node.attr for node in self.stores} | self.lost,
        )
        for node in sorted(
            (node for node in todo if isinstance(node, ast.ClassDef)), key=_position
        ):
            self.own |= (
                {node.name} if any(self.trains(self.path(base)) for base in node.bases) else set()
            )

    def see(self, node, scope):
        """Notes what a node binds, uses and changes."""
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                self.uses[name].append(node)
                self.words.add(
                    "globals"
                    if name == "vars" and not getattr(self.parents[node], "args", ())
                    else name
                )
            case ast.Name(id=name):
                self.bound[name][scope].append((node, self.given.get(node)))
            case ast.Attribute(attr=name):
                self.words |= {f".{name}", f"{getattr(node.value, 'id', '')}.{name}"}
                self.stores += [] if isinstance(node.ctx, ast.Load) else [node]
            case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
                self.pair(target, node.value)
            case ast.Assign(
                targets=targets, value=ast.Constant()
            ):  # else `a = b = []` are two names for one list
                for target in targets:
                    self.pair(target, node.value)
            case ast.AugAssign(target=target):
                self.given[target] = node
            case ast.NamedExpr(target=target):
                self.lost.add(target.id)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                self.lost.update(names)
            case ast.Import() | ast.ImportFrom():
                start = (
                    "." * node.level + (node.module or "") + "."
                    if isinstance(node, ast.ImportFrom)
                    else ""
                )
                for alias in node.names:
                    path = alias.name if start or alias.asname else alias.name.partition(".")[0]
                    self.bound[alias.asname or path][scope].append((node, start + path))
                    self.words |= {"import " + path, start + path, start[:-1], path}
            case ast.arg(arg=name):
                self.bound[name][scope].append((node, node))
            case ast.Call():
                self.calls.append(node)
            case ast.AST(name=str(name)) | ast.AST(rest=str(name)) if not isinstance(
                node, ast.alias
            ):  # def, class, except, case
                self.bound[name][scope].append((node, node if isinstance(node, SCOPES) else None))

    def pair(self, target, value):
        """Remembers which expression each name of an assignment's target gets."""
        match target, value:
            case ast.Name(), _:
                self.given[target] = value
            case (
                ast.Tuple(elts=[first, _]),
                ast.Call(func=ast.Attribute(attr="parse_known_args")),
            ):
                self.given[first] = value
            case (ast.Tuple(elts=names), ast.Tuple(elts=parts)) if len(names) == len(parts):
                for name, part in (
                    zip(names, parts)
                    if not any(isinstance(part, ast.Starred) for part in (*names, *parts))
                    else ()
                ):
                    self.pair(name, part)

    def owner(self, name: ast.Name):
        """The scope that a name belongs to where it is read. Methods do not see the names of their class."""
        scope = self.scopes[name]
        while scope is not self.tree and scope not in self.bound[name.id]:
            scope = self.scopes[scope]
            while isinstance(scope, ast.ClassDef):
                scope = self.scopes[scope]
        return scope

    def place(self, node, scope):
        """The direct statement of `scope` that `node` stands in, None where it may run at another time than that."""
        while (above := self.parents.get(node)) is not scope:
            if above is None or isinstance(above, NESTED):
                return None
            node = above
        return node

    def binding(self, name: ast.Name):
        """The (node, value) that a name has where it is read, None where more than one may be it."""
        scope = self.owner(name)
        found, use = self.bound[name.id].get(scope, []), self.place(name, scope)
        if (
            self.wild
            or name.id in self.lost
            or name.id[:2] == "__"
            or isinstance(scope, ast.ClassDef)
        ):
            return None
        if len(found) == 1 and not hasattr(builtins, name.id):  # read before, it would be an error
            return found[0]
        if use is None or not all(isinstance(self.place(node, scope), SIMPLE) for node, _ in found):
            return None
        before = [one for one in found if _position(one[0]) < _position(use)]
        return max(before, key=lambda one: _position(one[0]), default=None)

    def only(self, node):
        """What a Name that is bound once in the whole file is bound to, None for anything else."""
        found = (
            [one for scope in self.bound[node.id].values() for one in scope]
            if isinstance(node, ast.Name)
            else []
        )
        return self.binding(node)[1] if len(found) == 1 and self.binding(node) else None

    def path(self, node) -> str:
        """A callable's dotted name with import aliases undone; "?" stands for what is not sure, "" for a function of the file."""
        if isinstance(node, ast.Attribute):
            owner = self.path(node.value)
            return f"{owner if owner and node.attr not in self.stored else '?'}.{node.attr}"
        if not isinstance(node, ast.Name):
            return "?"
        key, unsure, paths = (node.id, self.owner(node)), f"?.{node.id}", []
        if key in self.memo:
            return self.memo[key]
        self.memo[key] = unsure
        for _, value in self.bound[node.id].get(key[1], ()):
            made = (
                f"<file>.{value.name}"
                if isinstance(value, ast.ClassDef)
                else ""
                if isinstance(value, SCOPES)
                else unsure
            )
            paths.append(
                value
                if isinstance(value, str)
                else self.path(value)
                if isinstance(value, (ast.Name, ast.Attribute))
                else made
            )
        training = [
            path for path in paths if self.trains(path)
        ]  # a fallback import must not hide the call
        sure = len(paths) < 2 and not (self.wild or node.id in self.lost or node.id in self.stored)
        self.memo[key] = (
            training[0] if training else [*paths, node.id][0] if sure or paths == [""] else unsure
        )
        return self.memo[key]

    def trains(self, path: str) -> bool:
        """Does calling this set training arguments?"""
        name = path.rpartition(".")[2]
        return (
            name in CONFIGS
            or name in self.own
            or bool(re.fullmatch(r"_*([A-Z]\w*)?TrainingArguments", name))
        )

    def argument_of(self, node):
        """The call that `node` is passed to, by place, by name or unpacked with `**`."""
        above = self.parents[node]
        call = self.parents[above] if isinstance(above, ast.keyword) else above
        return call if isinstance(call, ast.Call) and call.func is not node else None

    def method_of(self, node):
        """The call `node.name(...)`."""
        call = self.parents[self.parents[node]]
        return (
            call
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.value is node
            else None
        )

    # Values

    def value(self, node):
        """What an expression is worth, UNKNOWN where the text does not prove it."""
        if node not in self.memo:
            self.memo[node] = UNKNOWN  # what depends on itself stays so
            self.memo[node] = self.worth(node)
        return self.memo[node]

    def worth(self, node):
        match node:
            case ast.Constant(value=int() | float() | str() | None):
                return node.value
            case ast.Name():
                found = self.binding(node)
                value = (
                    self.value(found[1])
                    if found and isinstance(found[1], (ast.expr, ast.AugAssign))
                    else UNKNOWN
                )
                return value if _leaf(value) else self.held(node, found[0], value)
            case ast.List(elts=parts) | ast.Tuple(elts=parts) if not any(
                isinstance(part, ast.Starred) for part in parts
            ):
                return (list if isinstance(node, ast.List) else tuple)(map(self.value, parts))
            case ast.Dict():
                return self.mapping(zip(node.keys, node.values))
            case ast.UnaryOp(op=ast.USub()):
                return _arithmetic(ast.Mult(), -1, self.value(node.operand))
            case ast.UnaryOp(op=ast.Not()):
                value = _plain(self.value(node.operand))
                return UNKNOWN if value is UNKNOWN else not value
            case ast.BinOp(op=ast.BitOr()):
                return self.mapping([(None, node.left), (None, node.right)])
            case ast.BinOp(left=left, right=right) | ast.AugAssign(target=left, value=right):
                return _arithmetic(node.op, self.value(left), self.value(right))
            case ast.IfExp():
                one, other = self.value(node.body), self.value(node.orelse)
                return (
                    one
                    if _leaf(one) and type(one) is type(other) and repr(one) == repr(other)
                    else UNKNOWN
                )
            case ast.Subscript():
                return _part(self.value(node.value), self.value(node.slice))
            case ast.Attribute() if not (
                self.wild or self.words & SETTERS or node.attr in self.stored
            ):
                return self.option(node.attr) if self.parsed(node.value) else self.constant(node)
            case ast.Call(
                func=ast.Attribute(value=owner, attr="get"),
                args=[ast.Constant(value=str(key)), *rest],
            ):
                owner, default = self.value(owner), self.value(rest[0]) if rest else None
                return owner.get(key, [default])[0] if isinstance(owner, dict) else UNKNOWN
            case ast.Call() if self.path(node.func) == "dict" and len(node.args) < 2:
                return self.mapping(
                    [
                        *((None, part) for part in node.args),
                        *((part.arg, part.value) for part in node.keywords),
                    ]
                )
            case ast.Call(args=[argument], keywords=[]):
                return _cast(self.path(node.func), self.value(argument))
        return UNKNOWN

    def mapping(self, pairs):
        """The dict of (key, value) pairs of expressions; the key of what is unpacked is None."""
        made = {}
        for key, value in pairs:
            its, name = self.value(value), self.value(key) if isinstance(key, ast.AST) else key
            if key is None and isinstance(its, dict):
                made |= its
            elif key is not None and (name is None or isinstance(name, (str, int, float))):
                made[name] = its, getattr(key, "lineno", value.lineno)
            else:
                return UNKNOWN
        return made

    # Dicts and lists are known while every use of their name is a safe one

    def held(self, name: ast.Name, bound, raw):
        """The dict or list of a name, after the changes made before this use; UNKNOWN where others may change it."""
        scope = self.owner(name)
        if ("held", name.id, scope) not in self.memo:
            values = [
                self.value(value) if isinstance(value, ast.AST) else UNKNOWN
                for _, value in self.bound[name.id][scope]
            ]
            made = [(use, self.changes(use)) for use in self.uses[name.id]]
            changes = sorted(
                (one for _, change in made for one in change), key=lambda one: _position(one[0])
            )
            sure = all(
                isinstance(value, dict if changes else (dict, list, tuple)) for value in values
            )
            self.memo["held", name.id, scope] = (
                changes
                if sure and all(change or self.safe(use, values) for use, change in made)
                else None
            )
        changes, use = self.memo["held", name.id, scope], self.place(name, scope)
        if not changes:
            return UNKNOWN if changes is None else raw
        result, doubt = dict(raw), {}
        for statement, key, value in changes:
            its, line = (
                self.value(value) if isinstance(value, ast.expr) else UNKNOWN,
                (value or statement).lineno,
            )
            if (
                use is None
                or self.parents[statement] is not scope
                or not isinstance(statement, (ast.Assign, ast.Expr, ast.Delete))
            ):
                doubt[key] = UNKNOWN, line
            elif _position(bound) < _position(statement) < _position(use):
                result |= {key: (its if _leaf(its) else UNKNOWN, line)}
                if value is None:
                    del result[key]
        return {**result, **doubt}

    def changes(self, use) -> list:
        """[(statement, key, value)] where this use of a name changes keys of its dict; the value is None for a key taken away."""
        above, call = self.parents[use], self.method_of(use)
        statement = self.parents[call or above]
        match above:
            case ast.Subscript(slice=ast.Constant(value=key), ctx=ast.Store() | ast.Del()):
                alone = isinstance(statement, ast.Assign) and len(statement.targets) == 1
                return [
                    (
                        statement,
                        key,
                        statement.value
                        if alone
                        else None
                        if isinstance(statement, ast.Delete)
                        else statement,
                    )
                ]
            case ast.Attribute(attr="pop") if (
                call and call.args and isinstance(call.args[0], ast.Constant)
            ):
                return [(statement, call.args[0].value, None)]
            case ast.Attribute(attr="update") if call and all(
                isinstance(part, ast.Dict) for part in call.args
            ):
                pairs = [
                    (getattr(key, "value", None), value)
                    for part in call.args
                    for key, value in zip(part.keys, part.values)
                ]
                pairs += [(part.arg, part.value) for part in call.keywords]
                return (
                    [(statement, key, value) for key, value in pairs]
                    if all(isinstance(key, str) for key, _ in pairs)
                    else []
                )
        return []

    def safe(self, node, values: list) -> bool:
        """Does this use neither change the dict or list nor hand it to others? `values`: what it may be, followed along the way."""
        while True:
            above, call, key = self.parents[node], self.method_of(node), None
            if (
                isinstance(above, ast.Subscript)
                and above.value is node
                and isinstance(above.ctx, ast.Load)
            ):
                key, step = above.slice, above
            elif call and call.func.attr == "get" and call.args:
                key, step = call.args[0], call
            if not isinstance(key, ast.Constant):
                break
            node, values = step, [_part(value, key.value) for value in values]
        if all(map(_leaf, values)) or isinstance(
            above, (ast.Compare, ast.FormattedValue, ast.Expr)
        ):
            return True
        flat, argument = (
            all(_leaf(part) for value in values for part in _parts(value)),
            self.argument_of(node),
        )
        if argument:
            path, unpacked = (
                self.path(argument.func),
                isinstance(above, ast.keyword) and above.arg is None,
            )
            return (
                path in PURE
                or (self.trains(path) and path[0] != "<")
                or (flat and (unpacked or path in COPIES))
            )
        unpacked = (
            isinstance(above, ast.Dict)
            and node in above.values
            and above.keys[above.values.index(node)] is None
        )
        view = call is not None and call.func.attr in ("items", "keys", "values", "copy")
        joined = isinstance(above, ast.BinOp) and isinstance(above.op, (ast.BitOr, ast.Add))
        return flat and (
            unpacked or view or joined or getattr(above, "iter", None) is node or key is not None
        )

    # Attributes of a class that holds only constants, and of what the file's one argparse parser returns

    def constant(self, node):
        """`CFG.x`, of the class or of `CFG()`."""
        made, names = self.only(node.value), [node.value]
        if isinstance(made, ast.Call) and not made.args and not made.keywords:
            made, names = self.only(made.func), [node.value, made.func]
        if not isinstance(made, ast.ClassDef) or made.bases or made.keywords:
            return UNKNOWN
        plain, found = (
            (ast.Assign, ast.AnnAssign, ast.Pass, ast.Expr),
            self.bound[node.attr].get(made, []),
        )
        used = [(use, self.parents[use]) for name in names for use in self.uses[name.id]]
        sure = (
            len(found) == 1
            and isinstance(found[0][1], ast.expr)
            and all(isinstance(part, plain) for part in made.body)
        )
        sure = sure and all(
            self.path(part) == "dataclasses.dataclass" for part in made.decorator_list
        )
        sure = sure and all(
            isinstance(above, ast.Attribute) or getattr(above, "func", None) is use
            for use, above in used
        )
        return value if sure and _leaf(value := self.value(found[0][1])) else UNKNOWN

    def parsed(self, node, name: str = "") -> bool:
        """Does this expression hold what `parse_args()` returns, if `name` does?"""
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            node = (
                node.value
            )  # `parse_known_args()[0]`; of another part an attribute would be an error
        if isinstance(node, ast.Name):
            return node.id == name or self.is_space(node.id)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in (
            "parse_args",
            "parse_known_args",
        ):
            default = all(
                ast.unparse(part) in ("[]", "None", "args=None", "args=[]")
                for part in (*node.args, *node.keywords)
            )
            return (
                default
                and bool(self.parser[0])
                and getattr(node.func.value, "id", "") == self.parser[0]
            )
        function = self.function(node)
        ends = (
            [
                part
                for part in ast.walk(function)
                if isinstance(part, (ast.Return, ast.Yield, ast.YieldFrom))
            ]
            if function
            else []
        )
        plain = (
            len(ends) == 1 and isinstance(ends[0], ast.Return) and not self.function(ends[0].value)
        )
        return plain and self.parsed(ends[0].value, name)

    def is_space(self, name: str) -> bool:
        """Does a name, in all its scopes, hold only what `parse_args()` returns, and is that only looked at?"""
        if ("space", name) not in self.memo:
            self.memo["space", name] = False
            bound = [
                (scope, value) for scope, found in self.bound[name].items() for _, value in found
            ]
            held = [
                self.passed(value, scope)
                if isinstance(value, ast.arg)
                else self.parsed(value, name)
                for scope, value in bound
            ]
            held += [self.looks(use) for use in self.uses[name]] if all(held) else []
            self.memo["space", name] = bool(bound) and all(held) and name not in self.lost
        return self.memo["space", name]

    def function(self, call):
        """The file's own plain function that this calls."""
        made = self.only(call.func) if isinstance(call, ast.Call) else None
        return made if isinstance(made, ast.FunctionDef) and not made.decorator_list else None

    def given_by(self, call, parameter: str):
        """What a call of a function of the file passes for a parameter."""
        places = [
            part.arg
            for part in (*self.function(call).args.posonlyargs, *self.function(call).args.args)
        ]
        if any(isinstance(part, ast.Starred) for part in call.args):
            return None
        return {
            **dict(zip(places, call.args)),
            **{part.arg: part.value for part in call.keywords},
        }.get(parameter)

    def passed(self, parameter: ast.arg, function) -> bool:
        """Do all calls of a function pass what `parse_args()` returned for this parameter, under its own name?"""
        calls = [self.parents[use] for use in self.uses[getattr(function, "name", "")]]
        own = self.parents[self.parents[parameter]] is function  # else it is a lambda's
        passed = [
            self.given_by(call, parameter.arg) if self.function(call) is function else None
            for call in calls
        ]
        return (
            own
            and bool(passed)
            and all(part is not None and self.parsed(part, parameter.arg) for part in passed)
        )

    def looks(self, use) -> bool:
        """Does this use of a namespace only look at it, or pass it under its own name to a function of the file?"""
        above, call = self.parents[use], self.argument_of(use)
        if isinstance(above, ast.Return):  # what a function made itself is new each time
            made = self.bound[use.id].get(self.scopes[use], ())
            return bool(made) and not any(isinstance(value, ast.arg) for _, value in made)
        if self.function(call):
            return self.given_by(call, use.id) is use
        call = self.argument_of(call) if call and self.path(call.func) == "vars" else call
        return (
            self.path(call.func) in PURE
            if call
            else isinstance(above, (ast.Attribute, ast.FormattedValue))
        )

    @cached_property
    def parser(self) -> tuple:
        """(name of the file's one parser, {destination: [(flag, default, line)]}), or ("", {}) where something is not sure."""
        makers = [call for call in self.calls if self.path(call.func).endswith("ArgumentParser")]
        groups = [
            call
            for call in self.calls
            if getattr(call.func, "attr", "")
            in ("add_argument_group", "add_mutually_exclusive_group")
        ]
        names = [
            target
            for call in (*makers, *groups)
            for target in getattr(self.parents[call], "targets", ())
        ]
        sure = (
            len(makers) == 1
            and isinstance(self.parents[makers[0]], ast.Assign)
            and not self.words & RISKS
        )
        sure = (
            sure and self.path(makers[0].func) == "argparse.ArgumentParser" and not makers[0].args
        )
        sure = (
            sure
            and {part.arg for part in makers[0].keywords} <= PARSER
            and all(isinstance(name, ast.Name) for name in names)
        )
        sure = (
            sure
            and sum(map(len, self.bound[names[0].id].values())) == 1
            and not self.lost & {name.id for name in names}
        )
        if not sure or not all(self.method_of(use) for name in names for use in self.uses[name.id]):
            return "", {}
        found = defaultdict(list)
        for call in (
            call for call in self.calls if getattr(call.func, "attr", "") == "add_argument"
        ):
            flags, given = (
                [self.value(part) for part in call.args],
                {part.arg: part.value for part in call.keywords},
            )
            if None in given or not all(
                isinstance(flag, str) and flag for flag in flags or [UNKNOWN]
            ):
                return "", {}
            flag = next((flag for flag in flags if flag[:2] == "--"), flags[0])
            dest = (
                self.value(given["dest"]) if "dest" in given else flag.lstrip("-").replace("-", "_")
            )
            sure = self.parents[self.parents[call]] is self.scopes[makers[0]] and flag[0] == "-"
            found[dest if isinstance(dest, str) else None].append(
                (flag, self.default(given) if sure else UNKNOWN, call.lineno)
            )
        return ("", {}) if None in found else (names[0].id, found)

    def default(self, given: dict):
        """The default of an `add_argument`, by argparse's own rules."""
        action = given.get("action", ast.Constant("store"))
        action = (
            "store" if self.path(action) == "argparse.BooleanOptionalAction" else self.value(action)
        )
        implied = (
            {"store_true": False, "store_false": True}.get(action, UNKNOWN)
            if isinstance(action, str)
            else UNKNOWN
        )
        default = self.value(given["default"]) if "default" in given else implied
        if isinstance(default, str):  # argparse converts a default only if it is text
            default = _cast(self.path(given["type"]) if "type" in given else "str", default)
        optional = (
            "nargs" not in given and self.value(given.get("required", ast.Constant(False))) is False
        )
        return (
            default
            if optional and action in ("store", "store_true", "store_false") and _leaf(default)
            else UNKNOWN
        )

    def option(self, dest: str):
        """The default behind `args.dest`, with a note."""
        found = self.parser[1].get(dest, [])
        if len(found) != 1 or found[0][1] is UNKNOWN:
            return UNKNOWN
        self.notes.add(
            (found[0][2], f"{found[0][0]}: its default is read; the command line can change it")
        )
        return found[0][1]

    # Calls

    def read(self, source: Source) -> list[Call]:
        """The calls that set training arguments, in reading order; `notes` gets what is worth a remark."""
        found = []
        for node in sorted(self.calls, key=_position):
            path = self.path(node.func)
            name = path.rpartition(".")[2]
            if name == "HfArgumentParser":
                self.notes.add(
                    (
                        node.lineno,
                        "HfArgumentParser reads values from the command line; they cannot be told from the file",
                    )
                )
            elif self.trains(path) or name.endswith("Trainer"):
                cell, line = source.place(node.lineno)
                given, unread = self.arguments(node, name)
                told = {
                    key: value
                    for key, (its, _) in given.items()
                    if (value := _plain(its)) is not UNKNOWN
                }
                # what is written in another cell gets the line of the call
                places = {key: source.place(at) for key, (_, at) in given.items()}
                lines = {
                    key: its if other == cell else line for key, (other, its) in places.items()
                }
                if self.trains(path) or TRAINERS & set(given):
                    unread = (*(key for key in given if key not in told), *unread)
                    found.append(
                        Call(
                            source.file,
                            cell,
                            line,
                            name,
                            told,
                            unread,
                            lines,
                            self.unseeded(source),
                        )
                    )
        for node in self.stores:
            made = (
                self.bound[node.value.id].get(self.owner(node.value), ())
                if isinstance(node.value, ast.Name)
                else ()
            )
            if any(
                isinstance(value, ast.Call) and self.trains(self.path(value.func))
                for _, value in made
            ):
                self.notes.add(
                    (
                        node.lineno,
                        f"{ast.unparse(node)} is set after the call; this value is not read",
                    )
                )
        return found

    def unseeded(self, source: Source) -> str | None:
        """The first call that draws random weights before any that sets a seed. A Trainer with `model_init` sets it in time."""
        if any(part.arg == "model_init" for call in self.calls for part in call.keywords):
            return None
        for call in sorted(self.calls, key=_position):
            path = self.path(call.func)
            if path.rpartition(".")[2] in SEEDERS:
                return None
            if DRAWS.fullmatch(path) or path == "peft.get_peft_model":
                cell, line = source.place(call.lineno)
                return f"{path.partition('.')[2]} ({f'cell {cell}, ' if cell else ''}line {line})"
        return None

    def arguments(self, node, name: str) -> tuple[dict, list]:
        """({argument: (value, line)}, what cannot be told by name) of one call. A keyword by name beats an unpacked one."""
        named, unread, positional = (
            {part.arg: (self.value(part.value), part.lineno) for part in node.keywords if part.arg},
            [],
            node.args,
        )
        given = {}
        if (
            positional
            and not isinstance(positional[0], ast.Starred)
            and not (name.endswith("Trainer") or name in self.own)
        ):
            given["output_dir"], positional = (
                (self.value(positional[0]), positional[0].lineno),
                positional[1:],
            )
        unread += ["*args"] if positional else []
        for part in node.keywords:
            its = self.value(part.value) if part.arg is None else {}
            given |= (
                {key: pair for key, pair in its.items() if isinstance(key, str)}
                if isinstance(its, dict)
                else {}
            )
            unread += [] if isinstance(its, dict) else ["**" + ast.unparse(part.value)[:60]]
        return given | named, unread


def read_calls(path: str | Path) -> tuple[list[Call], list[str]]:
    """(calls, notes): the calls that set training arguments in a .py or .ipynb file, in reading order, and one-line remarks.

    The file is never run or imported. Counted are calls of names that end in TrainingArguments, of TRL's configs, of subclasses defined
    in the file, and trainers that take an argument of TRAINERS themselves. A default of argparse counts as the argument's value, with a
    note. A cell with a syntax error is passed over with a note. Raises BadInput for what is not a readable Python script or notebook.
    """
    source = read_source(path)
    with nesting_is_bad_input(source.file):
        reader = _Reader(source.tree, source.lost)
        calls = reader.read(source)
    notes = []
    for at, note in sorted(reader.notes):
        cell, line = source.place(at)
        notes.append((f"cell {cell}, " if cell else "") + f"line {line}: {note}")
    return calls, source.notes + notes
