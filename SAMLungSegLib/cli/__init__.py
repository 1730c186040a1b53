"""The command `samlungseg`: one file per subcommand, all errors of the library as one line and exit code 2."""

from __future__ import annotations

import argparse
import io
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NoReturn

from SAMLungSegLib import __version__
from SAMLungSegLib.cli import (
    adapt,
    automatic,
    batch,
    cache,
    compare,
    consensus,
    demo,
    evaluate,
    models,
    propagate,
    segment,
    study,
    train,
    tune,
)
from SAMLungSegLib.cli.choices import all_parsers as all_parsers
from SAMLungSegLib.cli.completion import SHELLS, PrintCompletion
from SAMLungSegLib.cli.config import (
    Config,
    add_config_options,
    add_opposites,
    check_written_out,
    config_file,
)
from SAMLungSegLib.cli.messages import messages_on_stderr, one_line, say
from SAMLungSegLib.cli.notice import terms_on_stderr
from SAMLungSegLib.errors import SAMLungSegError, is_out_of_memory, memory_advice
from SAMLungSegLib.isolation import prepare
from SAMLungSegLib.models.engines import FROM_EXTRAS, install_command

COMMANDS = (
    segment, propagate, automatic, batch, evaluate, compare, consensus, models, cache, demo, study, train, tune, adapt,
)  # fmt: skip
READING = (
    "segment", "propagate", "automatic", "batch", "evaluate", "compare", "consensus", "study", "train", "tune", "adapt",
)  # fmt: skip
TRAINING = ("study", "train", "tune", "adapt")
BAD_INPUT, INTERRUPTED, NOBODY_READS = 2, 130, 141  # the last as of a process that SIGPIPE ends

logger = logging.getLogger(__name__)


class HelpWithDefaults(argparse.HelpFormatter):
    """States the default of every option that has one, unless its text does so in words."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        is_stated = "default" in text or action.default in (None, False, argparse.SUPPRESS) or action.default == []
        return text if is_stated or not action.option_strings else f"{text}; default: %(default)s"


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments on one line."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**{"formatter_class": HelpWithDefaults, **settings})

    def error(self, message: str) -> NoReturn:
        if message.endswith("expected one argument"):  # or one that begins with a minus
            option = message.removeprefix("argument ").partition(":")[0].split("/")[-1]
            message += f" (one that begins with a minus is given as {option}=VALUE)"
        self.exit(BAD_INPUT, f"samlungseg: {message}; see '{self.prog} --help'\n")

    def refuse_unknown(self, arguments: Sequence[str]) -> NoReturn:
        """Name the arguments that this parser does not know, and the option that the first may mean."""
        close = get_close_matches(arguments[0].partition("=")[0], self._option_string_actions, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        self.error(f"unrecognized arguments: {' '.join(arguments)}{hint}")


def parser() -> argparse.ArgumentParser:
    """Of the command with all its subcommands."""
    top = OneLineParser(prog="samlungseg", description="Right and left lung on CT and chest X-ray.")
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}", help="show the version and exit")
    top.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        help="print a script that completes commands and options in a shell, and exit; no default",
    )
    subparsers = top.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    top.set_defaults(verbose=False, is_about_many=False, from_file=frozenset())
    for one in all_parsers(top):
        one.set_defaults(parser=one)
        add_opposites(one)
        add_config_options(one)
        one.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS, help="say what is done, and why")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `samlungseg ARGUMENTS`; returns the exit code."""
    with _flushed_stdout():
        parsed = _parsed(sys.argv[1:] if arguments is None else arguments)
        many = parsed.is_about_many or len(getattr(parsed, "inputs", ())) > 1
        with messages_on_stderr(verbose=parsed.verbose, many=many), terms_on_stderr():
            return _run(parsed)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments, with options from a file where they are not given."""
    top = parser()
    try:
        file = config_file(arguments)
        config = file and Config(file, {".".join(one.prog.split()[1:]): one for one in all_parsers(top) if one != top})
        parsed, unknown = top.parse_known_args(arguments)
        check_written_out(parsed, arguments)
    except SAMLungSegError as error:
        top.exit(BAD_INPUT, f"samlungseg: {one_line(str(error))}\n")
    if unknown:
        parsed.parser.refuse_unknown(unknown)
    taken = config.take(parsed) if config else ""
    if taken:
        say(f"samlungseg: {one_line(taken)}")
    return parsed


def _run(parsed: argparse.Namespace) -> int:
    start = time.perf_counter()
    logger.info("samlungseg %s, Python %s, %s", __version__, platform.python_version(), platform.platform())
    if parsed.command in READING:
        prepare()  # while what the command needs is imported
    try:
        code = parsed.run(parsed)
        logger.info("Finished after %.1f s with exit code %d.", time.perf_counter() - start, code)
        return code
    except (SAMLungSegError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return NOBODY_READS
        print(f"samlungseg: {one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in FROM_EXTRAS:
            raise
        extra = "train" if parsed.command in TRAINING else "sam"
        print(f"samlungseg: {parsed.command} needs {package}; run: {install_command(extra)}", file=sys.stderr)
        return BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"samlungseg: {memory_advice(error)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("samlungseg: stopped; files finished so far are complete, nothing is half-written.", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def _flushed_stdout() -> Iterator[None]:
    """Find out here, and not while the interpreter ends, that what was printed cannot be written.

    A reader that has seen enough (`| head`) is no error.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of names that are no text
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            _discard_stdout()
            if not isinstance(error, BrokenPipeError):
                print(f"samlungseg: what was printed cannot be written: {error.strerror}.", file=sys.stderr)
                raise SystemExit(BAD_INPUT) from None


def _nobody_reads() -> bool:
    """Whether it is stdout whose reader has gone."""
    try:
        print(flush=True)
    except BrokenPipeError:
        _discard_stdout()
        return True
    return False


def _discard_stdout() -> None:
    """What is left in the buffer goes nowhere, so that the interpreter ends without a word about it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
