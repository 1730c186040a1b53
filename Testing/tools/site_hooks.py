"""What MkDocs does not do by itself for the site: see `mkdocs.yml`, and `make docs`.

Pages outside docs/ and the notebook become pages of the site, each room of the library gets a page of its
docstrings, and links, which are those of the repository, are made to lead to pages of the site or to the repository.
"""

from __future__ import annotations

import ast
import json
import logging
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parent))
from notebook import as_markdown

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "SAMLungSegLib"
SOURCES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "lung-compact.md": "Resources/Models/lung-compact.md",
    "tutorial.md": "docs/tutorial.ipynb",
}
NOT_FOR_CALLERS = {"cli", "__init__", "__main__"}
LINK = re.compile(r"\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
WITH_A_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")

logger = logging.getLogger("mkdocs.hooks.site")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The repository's address is that of the Slicer extension; the API reference follows all other pages."""
    cmake = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    config.repo_url = re.search(r'EXTENSION_HOMEPAGE "([^"#]+)', cmake).group(1)
    config.nav.append({"API": [*reference_pages()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not Markdown in docs/."""
    made: dict[str, str | bytes] = {**reference_pages()}
    for uri, source in SOURCES.items():
        if is_notebook(uri):
            page, pictures = as_markdown(json.loads((REPOSITORY / source).read_text(encoding="utf-8")), uri[:-3])
            made |= {uri: page, **pictures}
        else:
            files.append(File.generated(config, uri, abs_src_path=str(REPOSITORY / source)))
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links between files of the repository into links of the site, and say which lead nowhere."""
    if page.file.src_uri.startswith("api/"):
        return markdown
    text, missing = with_links_of_site(markdown, page.file.src_uri, config.repo_url)
    for target in missing:
        if not (is_notebook(page.file.src_uri) and target in files.src_uris):  # what its cells draw
            logger.warning("%s links to %s, which is not in the repository.", page.file.src_uri, target)
    return text


def is_notebook(page: str) -> bool:
    """Whether a page of the site is a notebook in the repository."""
    return SOURCES.get(page, "").endswith(".ipynb")


def reference_pages() -> dict[str, str]:
    """Markdown of the API reference by place: a page for each room, and an index."""
    rooms: dict[str, list[str]] = {}
    for path in sorted((REPOSITORY / PACKAGE).rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        room = parts[1]
        if room not in NOT_FOR_CALLERS:
            rooms.setdefault(room, []).append(".".join(part for part in parts if part != "__init__"))
    pages = {f"api/{room}.md": _room_page(room, modules) for room, modules in rooms.items()}
    return {"api/index.md": _index_page(rooms), **pages}


def _room_page(room: str, modules: list[str]) -> str:
    """One entry for each file of a room; the first is the room itself."""
    return "\n\n".join([f"# {room}", *map(_entry, modules)]) + "\n"


def _entry(module: str) -> str:
    """A module's docstrings, of what it defines itself: what it takes from other files is described with these."""
    defined = (getattr(node, "name", "_") for node in _tree(module).body)
    members = [name for name in defined if not name.startswith("_")]
    is_room = _path(module).name == "__init__.py"
    return f"::: {module}" + (f"\n    options: {{members: {members or 'false'}}}" if is_room else "")


def _index_page(rooms: dict[str, list[str]]) -> str:
    names = sorted(_exported_names(), key=str.lower)
    lines = [
        "# API",
        "",
        f"From the docstrings. What most programs need is in `{PACKAGE}` itself:",
        "",
        *(f"- [`{name}`][{PACKAGE}.{name}]" for name in names),
        "",
        "The rooms of the library, as in [the architecture](../architecture.md):",
        "",
        *(f"- [`{room}`]({room}.md): {_first_sentence(modules[0])}" for room, modules in rooms.items()),
    ]
    return "\n".join(lines) + "\n"


def _exported_names() -> list[str]:
    """Names that the package offers: those of the imports in its `__init__.py`."""
    imports = [node for node in ast.walk(_tree(PACKAGE)) if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in imports if (node.module or "").startswith(PACKAGE) for alias in node.names]


def _first_sentence(module: str) -> str:
    """Of a module's docstring, which is its first paragraph."""
    text = ast.get_docstring(_tree(module)) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def _path(module: str) -> Path:
    base = REPOSITORY.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def with_links_of_site(markdown: str, page: str, repository_url: str) -> tuple[str, list[str]]:
    """A page's Markdown with its links as the site has them.

    Args:
        markdown: with links as they work in the repository, relative to the page's file there.
        page: the page's place in the site, such as `index.md`.
        repository_url: where files are shown that are no pages.

    Returns:
        The same with links to pages and pictures of the site relative to the page, and to other files of the repository
        as URLs, code blocks as they are; and the targets that are not in the repository.
    """
    folder = posixpath.dirname(SOURCES.get(page, f"docs/{page}"))
    missing: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        target = match["target"]
        if WITH_A_SCHEME.match(target):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        if not (REPOSITORY / path).exists():
            missing.append(target)
            return match[0]
        return f"]({_target_in_site(path, page, repository_url)}{match['anchor'] or ''})"

    pieces = FENCE.split(markdown)
    pieces[::2] = [LINK.sub(replaced, piece) for piece in pieces[::2]]
    return "".join(pieces), missing


def _target_in_site(path: str, page: str, repository_url: str) -> str:
    """Where a link to a file of the repository leads on the site."""
    pages = {source: uri for uri, source in SOURCES.items()}
    uri = pages.get(path, path.removeprefix("docs/"))
    if path in pages or path.startswith("docs/"):
        return posixpath.relpath(uri, posixpath.dirname(page) or ".")
    kind = "tree" if (REPOSITORY / path).is_dir() else "blob"
    return f"{repository_url.rstrip('/')}/{kind}/main/{path}"
