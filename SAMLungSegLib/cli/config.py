"""Options from a file, `samlungseg.toml`: one table for each subcommand, and [defaults] for all that take an option.

Nothing of a file is executed: its values are read as the command line reads its own, which wins over the file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from SAMLungSegLib.cli.choices import given_path
from SAMLungSegLib.documents import DocumentError, read_toml
from SAMLungSegLib.errors import SettingsError

NAME, DEFAULTS = "samlungseg.toml", "defaults"
NONE_VARIABLE = "SAMLUNGSEG_NO_CONFIG"

# What replaces files, and whom the work is given to: not for a file that came with a folder to decide.
CHOSEN_ONLY = ("overwrite", "scheduler")
_NOT_OF_A_FILE = ("help", "version", "config", "no-config", "print-completion")
_KINDS = {int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class FromFile:
    """A value that stands in the namespace until the command line has been read, where it gives no other."""

    value: Any

    def __str__(self) -> str:
        return str(self.value)


class ConfigFile(NamedTuple):
    """A file with options.

    Attributes:
        path: of it.
        is_chosen: whether --config names it, or it is in the user's own settings folder; else it was met in the working
            folder, and may be somebody else's.
    """

    path: Path
    is_chosen: bool


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """--config and --no-config."""
    parser.add_argument(
        "--config",
        dest="config_file",
        type=given_path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help=f"take options from FILE; default: {NAME} here, or else in the user's settings folder",
    )
    parser.add_argument(
        "--no-config", action="store_true", default=argparse.SUPPRESS, help="take no options from any file"
    )


def add_opposites(parser: argparse.ArgumentParser) -> None:
    """For each flag one that takes it back where a file sets it: --no-overlay of --overlay, --cache of --no-cache."""
    for action in [one for one in parser._actions if isinstance(one, argparse._StoreTrueAction)]:
        name = action.option_strings[-1][2:]
        opposite = f"--{name[3:]}" if name.startswith("no-") else f"--no-{name}"
        if opposite not in parser._option_string_actions and name not in _NOT_OF_A_FILE:
            parser.add_argument(
                opposite, dest=action.dest, action="store_const", const=action.default, help=argparse.SUPPRESS
            )


def config_file(arguments: Sequence[str]) -> ConfigFile | None:
    """The file that is meant: what --config names, samlungseg.toml here, or that of the user; None where there is none.

    With SAMLUNGSEG_NO_CONFIG=1 in the environment, only what --config names.

    Raises:
        SettingsError: --config names a file that is not there.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--config", type=Path)
    finder.add_argument("--no-config", action="store_true")
    try:
        given, _ = finder.parse_known_args(list(arguments))
    except argparse.ArgumentError:  # which the command's own parser says in words
        return None
    if given.no_config:
        return None
    if given.config is not None:
        if not given.config.is_file():
            raise SettingsError(f"{given.config} is no file; give a {NAME} with --config.")
        return ConfigFile(given.config, True)
    if os.environ.get(NONE_VARIABLE) == "1":
        return None
    possible = (ConfigFile(Path(NAME), False), ConfigFile(_user_path(), True))
    return next((one for one in possible if one.path.is_file()), None)


def _user_path() -> Path:
    import platformdirs

    return platformdirs.user_config_path("SAMLungSeg", appauthor=False) / NAME


def check_written_out(parsed: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Refuse abbreviations of the options by which the file is found.

    Raises:
        SettingsError: --config or --no-config is abbreviated.
    """
    for dest, option in (("config_file", "--config"), ("no_config", "--no-config")):
        if hasattr(parsed, dest) and not any(one.partition("=")[0] == option for one in arguments):
            raise SettingsError(f"{option} is abbreviated; write it out.")


class Config:
    """A file's options, as defaults of the parsers that take them.

    Args:
        file: with the options; `CHOSEN_ONLY` are passed over where the user has not chosen it.
        parsers: of the subcommands, by their names: 'segment', 'study.zero-shot'.
    Raises:
        SettingsError: the file is not TOML, or has a table, a key or a value that no subcommand takes.
    """

    def __init__(self, file: ConfigFile, parsers: Mapping[str, argparse.ArgumentParser]) -> None:
        self._path = path = file.path
        self._lists: dict[tuple[argparse.ArgumentParser, str], FromFile] = {}
        self._said: dict[tuple[argparse.ArgumentParser, str], str] = {}
        self._passed_over: dict[tuple[argparse.ArgumentParser, str], str] = {}
        tables = dict(self._tables(_content(path), {DEFAULTS, *parsers}))
        options = {name: _options(parser) for name, parser in parsers.items()}
        anywhere = {key for known in options.values() for key in known}
        for name, entries in tables.items():
            self._check_keys(name, entries, anywhere if name == DEFAULTS else options[name])
        for name, parser in parsers.items():
            given = {key: (table, value) for table in (DEFAULTS, name) for key, value in tables.get(table, {}).items()}
            for key, (table, said) in given.items():
                action = options[name].get(key)
                value = action and _value(action, said, path.parent, f"{path}, [{table}] {key}")
                if action is None or value is None:
                    continue
                if key in CHOSEN_ONLY and not file.is_chosen:
                    self._passed_over[parser, action.dest] = f"--{key}"
                else:
                    self._set(parser, action, value)
                    self._said[parser, action.dest] = f"--{key}{'' if said is True else f' {said}'}"

    def take(self, parsed: argparse.Namespace) -> str:
        """Put the file's values where the command line gave none, their names into `from_file`; say what was."""
        taken = []
        for dest, value in vars(parsed).copy().items():
            from_file = self._lists.get((parsed.parser, dest)) if value is None else value
            if isinstance(from_file, FromFile):
                setattr(parsed, dest, from_file.value)
                taken.append(dest)
        parsed.from_file = frozenset(taken)
        said = ", ".join(self._said[parsed.parser, dest] for dest in taken)
        told = [f"{self._path} gives {said}."] if said else []
        for (parser, dest), option in self._passed_over.items():
            if parser == parsed.parser and getattr(parsed, dest) == parser.get_default(dest):
                told.append(
                    f"{option} of {self._path} is passed over, for the file only lies here: give {option} yourself, or "
                    f"--config {self._path}."
                )
        return " ".join(told)

    def _tables(
        self, content: Mapping[str, Any], known: Collection[str], above: str = ""
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, value in content.items():
            name = f"{above}{key}"
            if not isinstance(value, dict) or not any(one == name or one.startswith(f"{name}.") for one in known):
                where = f"[{name}]" if isinstance(value, dict) else f"'{name}' outside all tables"
                raise SettingsError(f"{self._path}: {where} is not known; possible are {_listed(known, '[{}]')}.")
            within = {key: one for key, one in value.items() if isinstance(one, dict)}
            yield from self._tables(within, known, f"{name}.")
            rest = {key: one for key, one in value.items() if key not in within}
            if rest and name not in known:
                raise SettingsError(f"{self._path}: [{name}] has no options itself; its subcommands have tables.")
            yield name, rest

    def _check_keys(self, table: str, given: Mapping[str, Any], known: Collection[str]) -> None:
        for key in given:
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f"; did you mean '{close[0]}'? Possible" if close else "; possible"
                raise SettingsError(f"{self._path}, [{table}]: there is no option '{key}'{hint} are {_listed(known)}.")

    def _set(self, parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._AppendAction):  # else it would add to the file's
            self._lists[parser, action.dest] = FromFile(value)
            parser.set_defaults(**{action.dest: None})
        else:
            parser.set_defaults(**{action.dest: FromFile(value)})
        action.required = False


def _content(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except DocumentError as error:
        raise SettingsError(f"{error}; see docs/usage.md for an example.") from error


def _listed(known: Collection[str], pattern: str = "{}") -> str:
    return ", ".join(pattern.format(one) for one in sorted(known)) or "none"


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """By their long names, without what is about the command line itself."""
    return {
        option[2:]: action
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option[2:] not in _NOT_OF_A_FILE and action.help != argparse.SUPPRESS
    }


def _value(action: argparse.Action, given: Any, folder: Path, where: str) -> Any:
    """What the option has then; None where a flag is not to be set."""
    if action.nargs == 0:
        if not isinstance(given, bool):
            raise SettingsError(f"{where} is {given!r}; expected true or false.")
        return action.const if given else None
    is_list = isinstance(action, argparse._AppendAction) or action.nargs in ("+", "*") or isinstance(action.nargs, int)
    if not is_list:
        return _read(action, given, folder, where)
    count = action.nargs if isinstance(action.nargs, int) else None
    if not isinstance(given, list) or not given or count not in (None, len(given)):
        raise SettingsError(f"{where} is {given!r}; expected a list{f' of {count}' if count else ''}.")
    return [_read(action, one, folder, where) for one in given]


def _read(action: argparse.Action, given: Any, folder: Path, where: str) -> Any:
    """As the command line reads it; relative paths are relative to the file's folder."""
    reader: Any = action.type or str
    expected = (
        f"one of {_listed([str(one) for one in action.choices])}" if action.choices else _KINDS.get(reader, "text")
    )
    wrong = SettingsError(f"{where} is {given!r}; expected {expected}.")
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise wrong
    try:
        value = reader(str(given))
    except argparse.ArgumentTypeError as error:
        raise SettingsError(f"{where}: {error}.") from error
    except (TypeError, ValueError) as error:
        raise wrong from error
    is_text = isinstance(value, str | Path)
    if (is_text and not isinstance(given, str)) or (isinstance(value, int | float) and isinstance(given, str)):
        raise wrong
    if action.choices and value not in action.choices:
        raise wrong
    return folder / value.expanduser() if isinstance(value, Path) else value
