"""A command is one function: its docstring is its help, its annotations are its arguments.

    @command()
    def oneoff(context: Context, route: str = "") -> str:
        \"\"\"Send the next prompt elsewhere.

        Format: oneoff(backend:model)
        Example: oneoff(openai:gpt-5)
        \"\"\"

It returns its answer or raises `CommandError`. `route: str` takes a positional argument or `route=`; `*elements: str`
takes all that are positional, a keyword-only one `key=value` alone, `*given: Argument` everything as it was written,
and `text: Raw` all that stands between the parentheses. Every module of this folder is searched for commands.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from llm_interactive.commands.arguments import Argument, parse
from llm_interactive.commands.context import CommandError, Context


class Raw(str):
    """What was written between the parentheses."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    aliases: tuple[str, ...]
    function: Callable[..., str]

    def __call__(self, context: Context, arguments: str | None) -> str:
        """`arguments`: as written, None where there are no parentheses."""
        positional, named = self._bind(arguments or "")
        return self.function(context, *positional, **named)

    @property
    def description(self) -> str:
        return self._lines_of("")[0]

    @property
    def format(self) -> str:
        return self._lines_of("Format: ")[0]

    @property
    def examples(self) -> list[str]:
        return self._lines_of("Example: ")

    def _lines_of(self, label: str) -> list[str]:
        lines = inspect.cleandoc(self.function.__doc__ or "").splitlines()
        return [line.removeprefix(label) for line in lines if line.startswith(label)]

    def _bind(self, raw: str) -> tuple[list[Any], dict[str, str]]:
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        if parameters and parameters[0].annotation is Raw:
            return [Raw(raw)], {}
        given = parse(raw)
        if parameters and parameters[0].annotation is Argument:
            return list(given), {}
        names = {parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_POSITIONAL}
        positional = [argument.value for argument in given if argument.key is None]
        named: dict[str, str] = {}
        for argument in given:
            if argument.key is not None:
                key = argument.key.lower().replace("-", "_")
                if key not in names or key in named:
                    raise CommandError(f"{self.name}: the argument {argument.key}= is unknown or given twice")
                named[key] = argument.value
        most = sum(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and p.name not in named for p in parameters)
        if len(positional) > most and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
            raise CommandError(f"{self.name}: too many arguments; the format is {self.format}")
        free = (p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and p.name not in named)
        if most:
            named |= {parameter.name: value for parameter, value in zip(free, positional, strict=False)}
            positional = positional[most:]
        return positional, named


def command(name: str = "", aliases: tuple[str, ...] = ()) -> Callable[[Callable[..., str]], Command]:
    """`name`: where it is not the function's own."""

    def made(function: Callable[..., str]) -> Command:
        return Command(name or function.__name__, aliases, function)

    return made


@cache
def all_commands() -> Mapping[str, Command]:
    """By name, sorted; aliases are not in it (`named` finds them)."""
    package = importlib.import_module("llm_interactive.commands")
    found: dict[str, Command] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Command):
                found[value.name] = value
    return MappingProxyType(dict(sorted(found.items())))


@cache
def _by_every_name() -> Mapping[str, Command]:
    return {name: each for each in all_commands().values() for name in (each.name, *each.aliases)}


def named(name: str) -> Command | None:
    """Case does not matter."""
    return _by_every_name().get(name.lower())
