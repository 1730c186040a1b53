"""The package as a whole: what imports what, and what ships."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "SAMLungSegLib"
SOURCES = sorted(LIBRARY.rglob("*.py"))
LAYERS = (  # a module may import from its own row and from rows above it
    ("errors", "boxes", "coding", "named"),
    ("structures",),
    ("isolation",),
    ("documents", "files"),
    ("volume",),
    ("hounsfield", "intensity", "modality", "masks", "metrics", "phantom", "thirds"),
    ("air", "cardiothoracic", "densitometry", "laterality", "results", "volumetry"),
    ("postprocess", "classical"),
    ("prompts",),
    ("adapters",),
    ("options", "models"),
    ("provenance", "actions"),
    ("pipeline", "evaluation"),
    ("automatic", "overlays"),
    ("interaction",),
    ("training",),
    ("batch", "adaptation"),
    ("studies",),
    ("cli",),
)
WITHOUT_TORCH = tuple(name for row in LAYERS for name in row)


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def part_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_no_file_imports_slicer_and_imports_point_one_way(path):
    modules = imported_modules(path)
    assert not {module.split(".")[0] for module in modules} & {"slicer", "qt", "ctk", "vtk"}
    part = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    level = next((index for index, row in enumerate(LAYERS) if part in row), None)
    if level is None:
        assert part in {"__init__", "__main__"}
        return
    allowed = {name for row in LAYERS[: level + 1] for name in row}
    ours = {part_of(module) for module in modules if module.startswith("SAMLungSegLib.")}
    assert ours <= allowed


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_importing_a_light_part_does_not_import_torch(part):
    code = f"import sys, SAMLungSegLib.{part}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, SAMLungSegLib; sys.exit(bool({'torch', 'SimpleITK', 'pandas', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_the_exported_names_exist():
    import SAMLungSegLib

    for name in SAMLungSegLib.__all__:
        assert getattr(SAMLungSegLib, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = SAMLungSegLib.nothing


def test_no_file_is_longer_than_400_lines():
    assert [str(path) for path in SOURCES if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []


def test_the_command_line_starts_without_heavy_imports():
    code = "import sys, SAMLungSegLib.cli; sys.exit(bool({'torch', 'SimpleITK', 'scipy', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
