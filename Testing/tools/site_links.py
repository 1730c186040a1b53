"""Check the links of a built site, and list those that lead out of it (which are not fetched).

    python Testing/tools/site_links.py site

Exits with 1 where a page, a file or a place in a page is missing.
"""

from __future__ import annotations

import argparse
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class _Page(HTMLParser):
    """The places of a page, and where it leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = {""}
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.places.add(value or "")
            elif name in ("href", "src") and value:
                self.targets.append(value)


def check_site(folder: Path) -> tuple[list[str], list[str]]:
    """What is wrong with the links of a site, and where it leads outside.

    Args:
        folder: with the site's HTML files.

    Returns:
        A sentence for each link that leads nowhere, and the URLs outside, each once.
    """
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    del pages[folder / "404.html"]  # whose links depend on where the site is put
    problems, outside = [], set()
    for path, page in pages.items():
        for target in page.targets:
            if urlsplit(target).scheme or target.startswith("//"):
                outside.add(target)
            elif not _leads_somewhere(path, target, pages):
                problems.append(f"{path.relative_to(folder)} leads to {target}, which is not there.")
    return problems, sorted(target for target in outside if not target.startswith("data:"))


def _leads_somewhere(path: Path, target: str, pages: dict[Path, _Page]) -> bool:
    name, place = urldefrag(target)
    file = (path.parent / unquote(urlsplit(name).path)).resolve() if name else path
    return unquote(place) in pages[file].places if file in pages else file.exists()


def main() -> int:
    """Check the site that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, help="folder of the built site")
    problems, outside = check_site(parser.parse_args().site.resolve())
    print(*(f"not checked: {target}" for target in outside), *problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
