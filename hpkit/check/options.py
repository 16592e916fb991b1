"""argparse: the defaults of the file's one parser, and the names that hold what it parsed.

A second parser, a parser handed to others or a namespace that is written to leave a doubt, and
then no default is told.
"""

import ast
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from hpkit.check.containers import LOOKS
from hpkit.check.functions import passed_for, returned_by
from hpkit.check.names import Binding, Names
from hpkit.check.values import UNKNOWN, cast, is_immutable

#: Keywords of ArgumentParser that leave defaults alone; `argument_default` and `parents` do not.
HARMLESS_KEYWORDS = {
    "description",
    "prog",
    "usage",
    "epilog",
    "formatter_class",
    "allow_abbrev",
    "add_help",
}
#: Methods that change defaults, bring another parser, or change what an action or a type means.
RISKY_METHODS = {".set_defaults", ".add_subparsers", ".register"}
GROUPS = ("add_argument_group", "add_mutually_exclusive_group")
#: What an option of this action is worth where it is not used and has no default of its own.
FLAG_DEFAULTS = {"store_true": False, "store_false": True}
#: A call of parse_args with one of these reads the command line, or nothing: then defaults hold.
USUAL_ARGUMENTS = ("[]", "None", "args=None", "args=[]")


class Option(NamedTuple):
    """One `add_argument`: the attribute it sets, its first long flag, its default, its line.

    The default is UNKNOWN where the text does not tell it.
    """

    destination: str
    flag: str
    default: object
    line: int


class Parser(NamedTuple):
    """The variable that holds the parser, and its options by destination."""

    name: str
    options: dict[str, list[Option]]


#: What is told where something about the parser is not sure; no variable has this name.
NO_PARSER = Parser("", {})


class Options:
    """The options of the file's one parser. `value_of` tells what an expression is worth.

    `notes`: (line, remark) of each default that was used, since the command line can change it.
    """

    def __init__(self, names: Names, value_of: Callable):
        self.notes = set()
        self._names = names
        self._value_of = value_of

    def default_of(self, destination: str):
        """The default behind `args.destination`, with a note.

        UNKNOWN where the text does not tell it, or where two options share the destination.
        """
        options = self.parser.options.get(destination, [])
        if len(options) != 1 or options[0].default is UNKNOWN:
            return UNKNOWN
        (option,) = options
        note = f"{option.flag}: its default is read; the command line can change it"
        self.notes.add((option.line, note))
        return option.default

    @cached_property
    def parser(self) -> Parser:
        """The file's one parser, NO_PARSER where something about it is not sure."""
        maker, variables = self._find_parser()
        if maker is None:
            return NO_PARSER
        options = defaultdict(list)
        for call in self._names.calls:
            if getattr(call.func, "attr", "") != "add_argument":
                continue
            option = self._read_option(call, maker)
            if option is None:
                return NO_PARSER  # it may set what any other option sets
            options[option.destination].append(option)
        return Parser(variables[0].id, options)

    def _find_parser(self) -> tuple[ast.Call | None, list[ast.Name]]:
        """(the one call of ArgumentParser, the variables of the parser and its groups).

        (None, []) where another may change what the parser does.
        """
        names = self._names
        unsure = None, []
        makers = [c for c in names.calls if names.path(c.func).endswith("ArgumentParser")]
        if len(makers) != 1 or names.words & RISKY_METHODS:
            return unsure
        (maker,) = makers
        if names.path(maker.func) != "argparse.ArgumentParser" or maker.args:
            return unsure
        if not {part.arg for part in maker.keywords} <= HARMLESS_KEYWORDS:
            return unsure
        if not isinstance(names.parents[maker], ast.Assign):
            return unsure
        variables = list(names.parents[maker].targets)
        for call in names.calls:
            if getattr(call.func, "attr", "") in GROUPS:
                variables += getattr(names.parents[call], "targets", ())
        for variable in variables:
            if not isinstance(variable, ast.Name) or variable.id in names.lost:
                return unsure
        if len(names.all_bindings(variables[0].id)) != 1:
            return unsure
        for variable in variables:
            # `parser.method()` is all that may be done with it: nobody else gets hold of it.
            if not all(names.method_call_of(use) for use in names.uses[variable.id]):
                return unsure
        return maker, variables

    def _read_option(self, call: ast.Call, maker: ast.Call) -> Option | None:
        """The option that an `add_argument` makes, None where its destination is not told."""
        flags = [self._value_of(part) for part in call.args]
        given = {part.arg: part.value for part in call.keywords}
        if None in given or not flags:  # unpacked keywords have no name
            return None
        if not all(isinstance(flag, str) and flag for flag in flags):
            return None
        # argparse names the attribute after the first long flag, or else after the first of all.
        flag = next((flag for flag in flags if flag.startswith("--")), flags[0])
        destination = flag.lstrip("-").replace("-", "_")
        if "dest" in given:
            destination = self._value_of(given["dest"])
        if not isinstance(destination, str):
            return None
        # An option that a branch or another function adds may be added or not.
        names = self._names
        is_step = names.parents[names.parents[call]] is names.scopes[maker]
        default = UNKNOWN
        if is_step and flag.startswith("-"):  # a positional is required
            default = self._read_default(given)
        return Option(destination, flag, default, call.lineno)

    def _read_default(self, given: dict[str, ast.expr]):
        """The default of an `add_argument` with these keywords, by argparse's own rules."""
        action = self._read_action(given)
        default = FLAG_DEFAULTS.get(action, UNKNOWN)
        if "default" in given:
            default = self._value_of(given["default"])
        if isinstance(default, str):  # argparse converts a default only if it is text
            kind = self._names.path(given["type"]) if "type" in given else "str"
            default = cast(kind, default)
        is_optional = "nargs" not in given
        if is_optional and "required" in given:
            is_optional = self._value_of(given["required"]) is False
        is_plain = action == "store" or action in FLAG_DEFAULTS
        if is_optional and is_plain and is_immutable(default):
            return default
        return UNKNOWN

    def _read_action(self, given: dict[str, ast.expr]) -> str:
        """The name of an option's action, "" where the text does not tell it."""
        if "action" not in given:
            return "store"
        if self._names.path(given["action"]) == "argparse.BooleanOptionalAction":
            return "store"  # it takes its default as it is given
        action = self._value_of(given["action"])
        return action if isinstance(action, str) else ""


class Namespaces:
    """Which expressions hold what `parse_args()` of the file's one parser returned, unchanged."""

    def __init__(self, names: Names, options: Options):
        self._names = names
        self._options = options
        self._known = {}

    def holds(self, node: ast.AST, name: str = "") -> bool:
        """Does this expression hold what `parse_args()` returned, provided that `name` does?"""
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            returned = returned_by(self._names.function_of(node.value))
            if returned is not None:
                return self._holds_part(returned, node.slice.value, name)
            # `parse_known_args()[0]`; of another part an attribute would be an error.
            node = node.value
        if isinstance(node, ast.Name):
            return node.id == name or self._is_namespace(node.id)
        if not isinstance(node, ast.Call):
            return False
        if getattr(node.func, "attr", "") in ("parse_args", "parse_known_args"):
            return self._is_usual_parse(node)
        result = returned_by(self._names.function_of(node))
        if result is None:
            return False
        # One function deep: of functions that call each other this would find no end.
        return self._names.function_of(result) is None and self.holds(result, name)

    def _holds_part(self, returned: ast.expr, place, name: str) -> bool:
        """Is one part of a tuple that a function returns such a namespace?"""
        if not isinstance(returned, ast.Tuple) or not isinstance(place, int):
            return False
        if place >= len(returned.elts):
            return False
        part = returned.elts[place]
        return self._names.function_of(part) is None and self.holds(part, name)

    def _is_usual_parse(self, call: ast.Call) -> bool:
        """Is this `parse_args()` of the parser, without a list of arguments of the file's own?"""
        if not all(ast.unparse(part) in USUAL_ARGUMENTS for part in (*call.args, *call.keywords)):
            return False
        parser = self._options.parser
        return parser is not NO_PARSER and getattr(call.func.value, "id", "") == parser.name

    def _is_namespace(self, name: str) -> bool:
        """Does a name, in all its scopes, hold only such namespaces, which nobody changes?"""
        if name not in self._known:
            self._known[name] = False  # while its own uses are being judged
            self._known[name] = self._judge(name)
        return self._known[name]

    def _judge(self, name: str) -> bool:
        # By name and not by scope: `args` of one function is passed on as `args` of the next.
        bindings = self._names.all_bindings(name)
        held = [self._is_bound_to_one(binding, name) for binding in bindings]
        if not held or not all(held) or name in self._names.lost:
            return False
        return all(self._is_look(use) for use in self._names.uses[name])

    def _is_bound_to_one(self, binding: Binding, name: str) -> bool:
        if isinstance(binding.value, ast.arg):
            return self._is_passed(binding.value, binding.scope)
        return self.holds(binding.value, name)

    def _is_passed(self, parameter: ast.arg, function: ast.AST) -> bool:
        """Do all calls of a function pass a namespace for this parameter, under its own name?"""
        names = self._names
        if names.parents[names.parents[parameter]] is not function:
            return False  # a lambda's parameter, which counts to the scope around it
        calls = [names.parents[use] for use in names.uses[getattr(function, "name", "")]]
        for call in calls:
            if names.function_of(call) is not function:
                return False
            passed = passed_for(call, parameter.arg, function)
            if not isinstance(passed, ast.expr) or not self.holds(passed, parameter.arg):
                return False
        return bool(calls)

    def _is_look(self, use: ast.Name) -> bool:
        """Does this use only look at a namespace, or pass it to a function that is read as well?"""
        names = self._names
        above = names.parents[use]
        call = names.call_with(use)
        # `return args`, and `return args, other`.
        if isinstance(above, ast.Tuple):
            above = names.parents[above]
        if isinstance(above, ast.Return):
            # What the function itself made is new at each call; a parameter gets a second name.
            made = names.bound[use.id].get(names.scopes[use], ())
            return bool(made) and not any(isinstance(one.value, ast.arg) for one in made)
        function = names.function_of(call)
        if function:
            return passed_for(call, use.id, function) is use  # there it has the same name
        if call and names.path(call.func) == "vars":
            call = names.call_with(call)  # `print(vars(args))`; alone, its dict could be written to
            return call is not None and names.path(call.func) in LOOKS
        if call:
            return names.path(call.func) in LOOKS
        return isinstance(above, (ast.Attribute, ast.FormattedValue))
