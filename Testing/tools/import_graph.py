"""Draw which rooms of the library import which: the picture in docs/architecture.md.

    python Testing/tools/import_graph.py docs/images/import_graph.png

A room is a folder or file directly in the package. It stands one row above the highest room that it imports; an arrow
that a chain of other arrows implies is left out.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

Graph = dict[str, set[str]]


def imports_of_rooms(package: Path) -> Graph:
    """The rooms of a package by name, with the rooms that each imports, wherever in its files."""
    rooms: Graph = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if not room.startswith("__"):
            rooms.setdefault(room, set()).update(_imported_rooms(path, package.name))
    return {room: (imported & rooms.keys()) - {room} for room, imported in rooms.items()}


def _imported_rooms(path: Path, package: str) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            modules |= {f"{package}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return {module.split(".")[1] for module in modules if module.startswith(f"{package}.")}


def rows_of(graph: Graph) -> dict[str, int]:
    """The row of each room; 0 for those that import none.

    Raises:
        ValueError: rooms import each other in a circle.
    """
    rows: dict[str, int] = {}
    while len(rows) < len(graph):
        free = [room for room in graph if room not in rows and graph[room] <= rows.keys()]
        if not free:
            raise ValueError(f"{', '.join(sorted(graph.keys() - rows.keys()))} import each other in a circle.")
        rows |= {room: max((rows[one] + 1 for one in graph[room]), default=0) for room in free}
    return rows


def without_implied(graph: Graph) -> Graph:
    """The arrows that no chain of others implies."""

    def reached(room: str) -> set[str]:
        return graph[room].union(*map(reached, graph[room]))

    return {room: ones - set().union(*map(reached, ones)) for room, ones in graph.items()}


def _in_order(names: list[str], below: dict[str, float], arrows: Graph) -> list[str]:
    """The rooms of a row, each about above what it imports."""

    def place(name: str) -> float:
        places = [below[one] for one in arrows[name] if one in below]
        return sum(places) / len(places) if places else 0.0

    return sorted(names, key=lambda name: (place(name), name))


def draw(graph: Graph, path: Path) -> None:
    """Write the picture; its format follows the extension."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows, arrows = rows_of(graph), without_implied(graph)
    x: dict[str, float] = {}
    for row in range(max(rows.values()) + 1):
        names = _in_order([room for room in graph if rows[room] == row], x, arrows)
        x |= {name: (place + 0.5) / len(names) for place, name in enumerate(names)}
    figure, axes = plt.subplots(figsize=(11, 0.95 * (max(rows.values()) + 1)))
    for room, imported in arrows.items():
        for one in sorted(imported):
            skips = rows[room] - rows[one] > 1
            axes.annotate(
                "",
                (x[one], rows[one] + 0.2),
                (x[room], rows[room] - 0.2),
                zorder=1,
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "0.6" if skips else "0.35",
                    "connectionstyle": f"arc3,rad={0.12 if skips else 0}",
                },
            )
        box = {"boxstyle": "round,pad=0.35", "facecolor": "#e8f1f5", "edgecolor": "#4a7c94"}
        axes.text(x[room], rows[room], room, ha="center", va="center", fontsize=10, bbox=box, zorder=2)
    axes.set(xlim=(0, 1), ylim=(-0.5, max(rows.values()) + 0.5))
    axes.set_axis_off()
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Draw the library of this repository."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="file to write, such as docs/images/import_graph.png")
    draw(imports_of_rooms(REPOSITORY / "SAMLungSegLib"), parser.parse_args().picture)


if __name__ == "__main__":
    main()
