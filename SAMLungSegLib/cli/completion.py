"""`samlungseg --print-completion SHELL`: a script that completes subcommands, options, their choices and files."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any

from SAMLungSegLib.cli.choices import all_parsers, given_path
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.engines import install_command

SHELLS = ("bash", "zsh", "tcsh")


class PrintCompletion(argparse.Action):
    """Prints the script of a shell and exits."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: object) -> None:
        with suppress(BrokenPipeError):  # nobody reads on
            print(completion_script(parser, values))
        parser.exit()


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """By shtab, which reads the parsers.

    Raises:
        SettingsError: shtab is not installed.
    """
    try:
        import shtab
    except ModuleNotFoundError:
        raise SettingsError(f"Completion needs shtab; run: {install_command('completion')}") from None
    for one in all_parsers(parser):
        for action in one._actions:
            if action.type is given_path or action.dest == "inputs":
                setattr(action, "complete", shtab.FILE)  # noqa: B010 - as shtab wants it, and argparse does not know it
    return shtab.complete(parser, shell)
