"""The commands and the Python that the pages show, for tests that run them."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from SAMLungSegLib.cli import parser

REPOSITORY = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")
PLACEHOLDER_NUMBER = re.compile(r"(?<= )[KN](?=\s|$)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its first line there, its language and its text."""

    page: str
    line: int
    language: str
    text: str


def pages() -> list[str]:
    """All pages that show commands or code, by their path in the repository."""
    found = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("Resources/Models/*.md")]
    return sorted(path.relative_to(REPOSITORY).as_posix() for path in found if path.name != "CHANGELOG.md")


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    text = text_of(page)
    return [Block(page, text.count("\n", 0, one.start()) + 2, one[2], one[3]) for one in FENCE.finditer(text)]


def commands(block: Block) -> list[str]:
    """The lines of a block that call `samlungseg`, without the way to it and without comments."""
    if block.language in ("python", "json", "toml"):
        return []
    lines = (line.strip().removeprefix(".venv/bin/") for line in block.text.replace("\\\n", " ").splitlines())
    return [line.partition(" #")[0].rstrip() for line in lines if line.startswith("samlungseg ")]


def is_synopsis(command: str) -> bool:
    """Whether it says how a command is given, rather than being one."""
    return bool(re.search(r"[\[\]|]|\.\.\.", command))


def parsed(command: str) -> argparse.Namespace:
    """What the command line makes of a command, or of a synopsis with all that is optional and the first of choices.

    Raises:
        SystemExit: an option is unknown, a value is impossible or something is missing.
    """
    text = re.sub(r"[\[\]]|\.\.\.", "", command).replace(" | ", " ")
    text = re.sub(r"\|[^\s|]+", "", text)
    arguments = shlex.split(PLACEHOLDER_NUMBER.sub("1", text))[1:]
    found, unknown = parser().parse_known_args(arguments)
    if unknown:
        found.parser.refuse_unknown(unknown)
    return found


def code_in_sentences(page: str) -> list[str]:
    """What stands between single backticks."""
    return [" ".join(one.split()) for one in INLINE.findall(FENCE.sub("", text_of(page)))]


def names_imported(block: Block) -> Iterator[tuple[str, str]]:
    """The names that a block imports from the library, with their modules."""
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("SAMLungSegLib"):
            yield from ((node.module, alias.name) for alias in node.names)


def has_name(module: str, name: str) -> bool:
    """Whether a file of the library has a name, without importing it."""
    base = REPOSITORY.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not path.is_file():
        return False
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {getattr(node, "name", None) for node in ast.walk(tree)}  # definitions and imports
    found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}  # of what is loaded on first use
    return name in found or (base / f"{name}.py").is_file()
