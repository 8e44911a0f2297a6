"""The code blocks of a Markdown page: what runs, what is marked as needing something, and how both are checked.

A block of Python runs, unless the line before it says what is missing and which names the reader brings::

    <!-- not run, needs a pipeline with weights: pipe, prompt -->

Such a block is still compiled; its names must be defined, and what it imports from kdist or calls there must exist and
take these arguments. Lines of a ``console`` block that begin with ``$`` are parsed as kdist's own command line
would parse them, or, for scripts of this repository, held against the options in the script's source.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["Fence", "commands", "fences", "unknown_calls", "unknown_command", "unknown_names"]

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"(?:^ *<!-- not run, (?P<needs>[^:]*?)(?:: (?P<brings>[\w, ]+))? -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language and text, what it needs that tests lack ("": it runs), names the reader brings."""

    language: str
    text: str
    needs: str = ""
    brings: frozenset[str] = frozenset()


def fences(page: str) -> list[Fence]:
    """All fenced blocks of a page, in order."""
    return [
        Fence(
            match["language"],
            textwrap.dedent(match["text"]),
            match["needs"] or "",
            frozenset(filter(None, (match["brings"] or "").replace(" ", "").split(","))),
        )
        for match in _FENCE.finditer(page)
    ]


def unknown_names(tree: ast.Module, known: set[str]) -> set[str]:
    """Names that are read in a block and defined nowhere; ``known`` grows by what the block defines."""
    nodes = list(ast.walk(tree))
    named = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    named |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    named |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    named |= {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}
    known |= named
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return read - known - set(vars(builtins))


def unknown_calls(tree: ast.Module, objects: dict[str, Any]) -> list[str]:
    """Imports from kdist that fail and calls into it that its signatures refuse; ``objects`` grows by the imports."""
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "kdist":
                    module = importlib.import_module(alias.name)
                    objects[alias.asname or "kdist"] = module if alias.asname else importlib.import_module("kdist")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kdist":
            for alias in node.names:
                try:
                    objects[alias.asname or alias.name] = _member(importlib.import_module(node.module), alias.name)
                except AttributeError:
                    wrong.append(f"{node.module} has no {alias.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            wrong += _refused(node, objects)
    return wrong


def _member(module: ModuleType, name: str) -> Any:
    """A module's name or submodule."""
    try:
        return getattr(module, name)
    except AttributeError:
        try:
            return importlib.import_module(f"{module.__name__}.{name}")
        except ImportError:
            raise AttributeError(name) from None


def _refused(call: ast.Call, objects: dict[str, Any]) -> Iterator[str]:
    """Why kdist would refuse this call by its signature, if it is one of kdist's."""
    names = ast.unparse(call.func).split(".")
    if names[0] not in objects:
        return
    called = objects[names[0]]
    for name in names[1:]:
        if not isinstance(called, ModuleType):
            return  # an attribute of a value: only a run could tell
        try:
            called = _member(called, name)
        except AttributeError:
            yield f"{'.'.join(names)} does not exist"
            return
    if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
        return
    try:
        inspect.signature(called).bind(*[None] * len(call.args), **{str(k.arg): None for k in call.keywords})
    except TypeError as error:
        yield f"{ast.unparse(call)}: {error}"


def commands(text: str) -> list[list[str]]:
    """The words of each command of a console or shell block, lines that end in a backslash joined."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    prompts = [line.strip()[2:] for line in lines if line.strip().startswith("$ ")]
    return [words for line in prompts or lines if (words := shlex.split(line, comments=True))]


def unknown_command(words: list[str]) -> str:
    """Why a command of this project would be refused before it runs ("": it would not, or is another program's)."""
    if words[0] == "accelerate" and "-m" in words:
        words = ["python", *words[words.index("-m") :]]
    if words[:3] == ["python", "-m", "kdist.cli"]:
        words = ["kdist", *words[3:]]
    if words[0] == "kdist":
        return _unparsable(words[1:])
    if words[0] not in ("python", "bash"):
        return ""
    module = words[1] == "-m"
    name = words[2] if module else words[1]
    if module and not name.startswith("scripts."):
        return ""
    path = ROOT / (name.replace(".", "/") + ".py" if module else name)
    if not path.is_file():
        return f"{name} is no script of this repository" if "/" in name or module else ""
    source = "".join(p.read_text() for p in {path, *path.parent.glob("*.py")})
    # typer makes --per-class of a parameter per_class (and --no-per-class of a yes or no), argparse has it written out
    return ", ".join(
        f"{name} has no {word}"
        for word in (w.split("=")[0] for w in words if w.startswith("--"))
        if not re.search(
            rf"[\"']{word}[\"']|\b{word.removeprefix('--').removeprefix('no-').replace('-', '_')}: ", source
        )
    )


def _unparsable(words: list[str]) -> str:
    """What the command line's parser says of these words: options, their values, arguments; nothing is run."""
    import typer

    from kdist.cli.app import app

    refused: type[Exception] = typer.BadParameter.__bases__[
        0
    ]  # click's UsageError, or that of typer's own copy of click
    group: Any = typer.main.get_command(app)
    context = group.context_class(group, info_name="kdist")
    try:
        _, command, rest = group.resolve_command(context, list(words))
        command.make_context(command.name, rest, parent=context)
    except typer.Exit:
        return ""  # --help
    except refused as error:
        return f"{shlex.join(words)}: {error.format_message()}"  # type: ignore[attr-defined]
    return ""
