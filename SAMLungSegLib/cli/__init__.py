"""The command `samlungseg`: one file per subcommand, all errors of the library as one line and exit code 2."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from SAMLungSegLib.cli import automatic, batch, cache, demo, evaluate, models, segment, study, train, tune
from SAMLungSegLib.errors import SAMLungSegError

COMMANDS = (segment, automatic, batch, evaluate, models, cache, demo, study, train, tune)
BAD_INPUT, INTERRUPTED = 2, 130


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"samlungseg: {message}; see '{self.prog} --help'\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `samlungseg ARGUMENTS`; returns the exit code."""
    parser = OneLineParser(prog="samlungseg", description="Right and left lung on CT and chest X-ray.")
    parser.add_argument("--verbose", action="store_true", help="log what is done")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO if parsed.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    try:
        return parsed.run(parsed)
    except (SAMLungSegError, OSError) as error:
        print(f"samlungseg: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("samlungseg: stopped; files finished so far are complete, nothing is half-written.", file=sys.stderr)
        return INTERRUPTED
