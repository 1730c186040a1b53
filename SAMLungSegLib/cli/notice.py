"""The terms of the bundled weights, said once to each user of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from SAMLungSegLib.cli.messages import say
from SAMLungSegLib.documents import DocumentError, read_text
from SAMLungSegLib.errors import OutputError
from SAMLungSegLib.files import writable_folder, write_text
from SAMLungSegLib.models.registry import ModelSpec, cache_folder
from SAMLungSegLib.models.terms import set_before_use, terms_of


@contextmanager
def terms_on_stderr() -> Iterator[None]:
    """Say the terms of bundled weights when they are first read inside the block; nothing stops."""
    before = set_before_use(_say_once)
    try:
        yield
    finally:
        set_before_use(before)


def _say_once(spec: ModelSpec) -> None:
    """What was said is kept in the cache folder, so that other terms are said again."""
    terms, path = terms_of(spec), cache_folder() / f"terms-{spec.name}.txt"
    with suppress(DocumentError):
        if read_text(path) == terms:
            return
    say(f"samlungseg: {terms} This is said once.")
    with suppress(OutputError):  # then it is said again
        write_text(terms, writable_folder(path.parent) / path.name)
