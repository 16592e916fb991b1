"""Who binds, uses and changes each name of a file, and which callable a name stands for.

A binding is only told where no other can have come between; WILD and SETTERS are the ways round
that Python leaves open.
"""

import ast
import builtins
import re
from collections import defaultdict
from typing import NamedTuple

#: TRL's configurations extend TrainingArguments, under names that do not say so.
TRL_CONFIGS = {
    f"{method}Config"
    for method in "SFT DPO ORPO KTO CPO GRPO PPO Reward RLOO OnlineDPO PRM BCO GKD XPO NashMD "
    "IterativeSFT".split()
}
#: Packages whose classes are known by name, wherever in the package they are imported from.
LIBRARIES = ("transformers", "trl", "peft", "unsloth")
#: Words after which any name may hold anything: they run text, or open a module's names as a dict.
WILD = {
    "exec",
    "eval",
    "globals",
    "locals",
    "__builtins__",
    "__main__",
    "builtins",
    "import *",
    "sys.modules",
    ".__globals__",
    ".f_globals",
    ".f_locals",
    ".run_line_magic",
    ".run_cell",
    ".run_cell_magic",
}
#: Words after which any attribute may hold anything: they set one without writing `x.name =`.
SETTERS = {"setattr", "delattr"}
#: The same, without handing the object to anybody.
HIDDEN_SETTERS = {".__dict__", ".__setattr__", ".__delattr__"}
#: Nodes whose names are their own.
SCOPES = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
#: What stands inside these may run later, or more than once.
NESTED = (*SCOPES, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
#: Statements that bind a name for certain where they are reached; a loop or a branch may not.
SIMPLE = (
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Import,
    ast.ImportFrom,
    ast.arguments,
    *SCOPES,
)


class Binding(NamedTuple):
    """One place where a name gets a value.

    `value` is an expression, the node of `x += 1`, an import's dotted path, a definition, a
    parameter (ast.arg), or None for anything else, such as the name of a loop.
    """

    node: ast.AST
    scope: ast.AST
    value: ast.AST | str | None


def position(node: ast.AST) -> tuple[int, int]:
    """(line, column), by which nodes stand in reading order; a node without a place comes first."""
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def keyword(call: ast.Call, *names: str) -> ast.expr | None:
    """What a call is given under one of these names."""
    for part in call.keywords:
        if part.arg in names:
            return part.value
    return None


def last_name(call: ast.Call) -> str:
    """`from_pretrained` of `AutoModel.from_pretrained(…)`."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


class Names:
    """The names of a syntax tree, noted once. What reads expressions asks here and changes nothing.

    `parents`: node -> the node above it. `scopes`: node -> the node of SCOPES it stands in.
    `bound`: name -> scope -> its Bindings. `uses`: name -> where it is read, in the whole file.
    `lost`: names that may hold anything, `wild`: whether all may. `words`: what is compared with
    WILD and SETTERS: names, import paths, attributes as ".attribute" and "name.attribute".
    `stores`: attributes that are set or deleted, `stored` their names. `calls`: all calls,
    `keywords` the names that they give arguments by.
    `imports`: all `from package import name`. `training_classes`: the file's own classes that are
    training arguments, by name. `sets_by_name_alone`: each setattr writes out what it sets.
    """

    def __init__(self, tree: ast.Module, lost: list[str]):
        self.tree = tree
        self.lost = set(lost)
        self.words = set(lost)
        self.parents = {}
        self.scopes = {tree: None}
        self.bound = defaultdict(lambda: defaultdict(list))
        self.uses = defaultdict(list)
        self.calls = []
        self.keywords = set()
        self.stores = []
        self.imports = []
        self.training_classes = {}
        self._assigned = {}  # the target of an assignment -> the expression that it gets
        self._parts = []  # (a part of what a call returns, the call)
        self._paths = {}
        classes = [node for node in self._walk() if isinstance(node, ast.ClassDef)]
        self.wild = bool(self.words & WILD)
        # Text that was not read may have set an attribute as well as a name.
        self.stored = {node.attr for node in self.stores} | self.lost | self._set_by_name()
        # In reading order: a class may inherit from one above it.
        for node in sorted(classes, key=position):
            if any(self.is_training(self.path(base)) for base in node.bases):
                self.training_classes[node.name] = node

    def _set_by_name(self) -> set[str]:
        """The attributes of `setattr(x, "name", value)`: no others are set by it."""
        written = set()
        told = 0
        for call in self.calls:
            if getattr(call.func, "id", "") in SETTERS:
                name = call.args[1] if len(call.args) > 1 else None
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    written.add(name.value)
                    told += 1
        # `put = setattr` would be a use that is no call.
        self.sets_by_name_alone = told == sum(len(self.uses[setter]) for setter in SETTERS)
        return written

    def _walk(self) -> list[ast.AST]:
        """Notes every node, an assignment before its targets; all nodes, each after its parent."""
        nodes = [self.tree]
        for node in nodes:  # grows while it is walked through
            self._note(node, self.scopes[node])
            inner = node if isinstance(node, SCOPES) else self.scopes[node]
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
                self.scopes[child] = inner
                nodes.append(child)
        for part, call in self._parts:  # they stand where the call does
            self.parents[part] = self.parents[call]
            self.scopes[part] = self.scopes[call]
        return nodes

    def _note(self, node: ast.AST, scope):
        """Notes what a node binds, uses and changes."""
        match node:
            case ast.Name(ctx=ast.Load()):
                self._note_use(node)
            case ast.Name(id=name):
                self._bind(name, node, scope, self._assigned.get(node))
            case ast.Attribute():
                self._note_attribute(node)
            case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
                self._assign(target, node.value)
            case ast.Assign(targets=targets, value=ast.Constant()):
                # Of constants alone: `a = b = []` would be two names for one list.
                for target in targets:
                    self._assign(target, node.value)
            case ast.AugAssign(target=target):
                self._assigned[target] = node
            case ast.NamedExpr(target=target):
                self.lost.add(target.id)  # it binds inside an expression, at a time of its own
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                self.lost.update(names)
            case ast.Import() | ast.ImportFrom():
                self._note_import(node, scope)
            case ast.arg(arg=name):
                self._bind(name, node, scope, node)
            case ast.Call():
                self.calls.append(node)
                self.keywords |= {part.arg for part in node.keywords}
            case ast.alias():
                pass  # noted with its import; it has a `name` as well
            # def, class, `except E as name`, `case name`, `case {**rest}`
            case ast.AST(name=str(name)) | ast.AST(rest=str(name)):
                self._bind(name, node, scope, node if isinstance(node, SCOPES) else None)

    def _bind(self, name: str, node: ast.AST, scope, value):
        self.bound[name][scope].append(Binding(node, scope, value))

    def _note_use(self, node: ast.Name):
        self.uses[node.id].append(node)
        if node.id == "vars" and not getattr(self.parents[node], "args", ()):
            self.words.add("globals")  # `vars()` of nothing
        else:
            self.words.add(node.id)

    def _note_attribute(self, node: ast.Attribute):
        owner = getattr(node.value, "id", "")
        self.words |= {f".{node.attr}", f"{owner}.{node.attr}"}
        if not isinstance(node.ctx, ast.Load):
            self.stores.append(node)

    def _note_import(self, node: ast.Import | ast.ImportFrom, scope):
        module = ""
        if isinstance(node, ast.ImportFrom):
            self.imports.append(node)
            module = "." * node.level + (node.module or "") + "."
        for alias in node.names:
            path = alias.name
            if not module and not alias.asname:
                path = path.partition(".")[0]  # `import a.b` binds `a`
            self._bind(alias.asname or path, node, scope, module + path)
            self.words |= {"import " + path, module + path, module[:-1], path}

    def _assign(self, target, value):
        """Remembers which expression each name of an assignment's target gets."""
        match target, value:
            case ast.Name(), _:
                self._assigned[target] = value
            case (
                ast.Tuple(elts=[first, _]),
                ast.Call(func=ast.Attribute(attr="parse_known_args")),
            ):
                self._assigned[first] = value  # the second has the words that argparse left over
            case ast.Tuple(elts=targets), ast.Tuple(elts=values) if len(targets) == len(values):
                if any(isinstance(part, ast.Starred) for part in (*targets, *values)):
                    return
                for one_target, its_value in zip(targets, values):
                    self._assign(one_target, its_value)
            case ast.Tuple(elts=targets), ast.Call():
                # `a, b = make()` is `a = make()[0]`, `b = make()[1]` where make has no memory.
                if not any(isinstance(part, ast.Starred) for part in targets):
                    for place, one_target in enumerate(targets):
                        self._assign(one_target, self._part(value, place))

    def _part(self, call: ast.Call, place: int) -> ast.Subscript:
        """The node of `call[place]`, where the call stands."""
        index = ast.copy_location(ast.Constant(place), call)
        part = ast.copy_location(ast.Subscript(call, index, ast.Load()), call)
        self._parts.append((part, call))
        return part

    def all_bindings(self, name: str) -> list[Binding]:
        """The bindings of a name in all its scopes."""
        return [one for bindings in self.bound[name].values() for one in bindings]

    def owner(self, name: ast.Name) -> ast.AST:
        """The scope that a name belongs to where it is read.

        Methods do not see the names of their class.
        """
        scope = self.scopes[name]
        while scope is not self.tree and scope not in self.bound[name.id]:
            scope = self.scopes[scope]
            while isinstance(scope, ast.ClassDef):
                scope = self.scopes[scope]
        return scope

    def statement_of(self, node: ast.AST, scope: ast.AST) -> ast.AST | None:
        """The direct statement of `scope` that `node` stands in.

        None where `node` may run at another time than that statement.
        """
        above = self.parents.get(node)
        while above is not scope:
            if above is None or isinstance(above, NESTED):
                return None
            node = above
            above = self.parents.get(node)
        return node

    def binding(self, name: ast.Name) -> Binding | None:
        """The binding that a name has where it is read, None where more than one may be it."""
        scope = self.owner(name)
        # Python sets `__name__` and its like itself.
        if self.wild or name.id in self.lost or name.id.startswith("__"):
            return None
        if isinstance(scope, ast.ClassDef):
            return None
        bindings = self.bound[name.id].get(scope, [])
        # A name that is read before its one binding is an error, unless Python has one of its own.
        if len(bindings) == 1 and not hasattr(builtins, name.id):
            return bindings[0]
        use = self.statement_of(name, scope)
        if use is None:
            return None  # a function may be called before, between or after the bindings
        if not all(isinstance(self.statement_of(one.node, scope), SIMPLE) for one in bindings):
            return None
        before = [one for one in bindings if position(one.node) < position(use)]
        return max(before, key=lambda one: position(one.node), default=None)

    def only_value(self, node: ast.AST):
        """What a Name that is bound once in the whole file is bound to, None for anything else."""
        if not isinstance(node, ast.Name) or len(self.all_bindings(node.id)) != 1:
            return None
        binding = self.binding(node)
        return binding.value if binding else None

    def origin(self, node: ast.expr | None) -> ast.expr | None:
        """The expression that a name stands for, as far as one assignment after another tells."""
        for _ in range(10):
            if not isinstance(node, ast.Name):
                return node
            binding = self.binding(node)
            if binding is None or not isinstance(binding.value, ast.expr):
                return None
            node = binding.value
        return None

    def path(self, node: ast.AST) -> str:
        """A callable's dotted name with import aliases undone.

        "?" stands for what is not sure, "" for a function of the file, and a class of the file is
        "<file>.Name".
        """
        if isinstance(node, ast.Attribute):
            owner = self.path(node.value)
            if not owner or node.attr in self.stored:
                owner = "?"
            return f"{owner}.{node.attr}"
        if not isinstance(node, ast.Name):
            return "?"
        key = (node.id, self.owner(node))
        if key not in self._paths:
            self._paths[key] = f"?.{node.id}"  # what is bound to itself, as in `a = b; b = a`
            self._paths[key] = self._path_of_name(*key)
        return self._paths[key]

    def _path_of_name(self, name: str, scope: ast.AST) -> str:
        unsure = f"?.{name}"
        paths = [self._path_of_value(one.value, unsure) for one in self.bound[name].get(scope, ())]
        for path in paths:
            if self.is_training(path):
                return path  # the other branch of a fallback import must not hide the call
        if paths == [""]:
            return ""
        if len(paths) > 1 or self.wild or name in self.lost or name in self.stored:
            return unsure
        return paths[0] if paths else name

    def _path_of_value(self, value, unsure: str) -> str:
        match value:
            case str():
                return value
            case ast.Name() | ast.Attribute():
                return self.path(value)
            case ast.ClassDef():
                return f"<file>.{value.name}"
            case ast.Module() | ast.FunctionDef() | ast.AsyncFunctionDef():
                return ""
        return unsure

    def library(self, path: str) -> str:
        """The package that a dotted name comes from; "" where the text does not tell.

        A class of the file comes from where its base does.
        """
        seen = set()
        while path.startswith("<file>."):
            node = self.training_classes.get(path.removeprefix("<file>."))
            if node is None or node.name in seen:
                return ""
            seen.add(node.name)
            paths = [self.path(base) for base in node.bases]
            path = next(filter(self.is_training, paths))
        package, _, rest = path.partition(".")
        name = rest if package == "?" else package
        if not rest or (package == "?" and not self.all_bindings(name)):
            # A name that nobody imports by itself: `from trl import *` may have brought it.
            return next((star for star in self._stars() if star in LIBRARIES), "")
        return "" if package == "?" else package

    def _stars(self) -> list[str]:
        return [node.module or "" for node in self.imports if node.names[0].name == "*"]

    def is_training(self, path: str) -> bool:
        """Does calling this set training arguments?"""
        name = path.rpartition(".")[2]
        if name in TRL_CONFIGS or name in self.training_classes:
            return True
        # Capitals, as a class has: `make_TrainingArguments` is a function of its own.
        return bool(re.fullmatch(r"_*([A-Z]\w*)?TrainingArguments", name))

    def call_with(self, node: ast.AST) -> ast.Call | None:
        """The call that `node` is passed to, by place, by name or unpacked with `**`."""
        above = self.parents[node]
        call = self.parents[above] if isinstance(above, ast.keyword) else above
        if isinstance(call, ast.Call) and call.func is not node:
            return call
        return None

    def method_call_of(self, node: ast.AST) -> ast.Call | None:
        """The call `node.name(...)`."""
        call = self.parents[self.parents[node]]
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            return None
        return call if call.func.value is node else None

    def function_of(self, call: ast.AST | None) -> ast.FunctionDef | None:
        """The file's own plain function that this calls."""
        if not isinstance(call, ast.Call):
            return None
        made = self.only_value(call.func)
        if isinstance(made, ast.FunctionDef) and not made.decorator_list:
            return made
        return None
