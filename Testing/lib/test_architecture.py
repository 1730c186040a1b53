"""docs/architecture.md and its picture say what the sources say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Testing" / "tools"))
from import_graph import draw, imports_of_rooms, rows_of, without_implied  # noqa: E402

HOUSE = {"roof": {"walls", "floor"}, "walls": {"floor"}, "floor": {"ground"}, "ground": set(), "shed": set()}


def test_imports_are_found_wherever_they_stand(tmp_path):
    package = tmp_path / "toy"
    (package / "a").mkdir(parents=True)
    (package / "__init__.py").write_text("from toy.b import x\n")
    (package / "a" / "one.py").write_text(
        "import os, toy.b\ndef f():\n    from toy import c\n    from toy.a.two import y\n"
    )
    (package / "b.py").write_text("from toyota.c import z\n")
    (package / "c.py").write_text("from toy.b import x\n")
    assert imports_of_rooms(package) == {"a": {"b", "c"}, "b": set(), "c": {"b"}}


def test_a_room_stands_above_all_that_it_imports():
    assert rows_of(HOUSE) == {"ground": 0, "shed": 0, "floor": 1, "walls": 2, "roof": 3}
    with pytest.raises(ValueError, match="a, b import each other"):
        rows_of({"a": {"b"}, "b": {"a"}, "c": set()})


def test_arrows_that_others_imply_are_left_out():
    assert without_implied(HOUSE) == HOUSE | {"roof": {"walls"}}


def test_a_picture_is_written(tmp_path):
    draw(HOUSE, tmp_path / "house.png")
    assert (tmp_path / "house.png").read_bytes().startswith(b"\x89PNG")


def test_the_architecture_page_names_every_room():
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [room for room in imports_of_rooms(REPOSITORY / "SAMLungSegLib") if f"`{room}`" not in page] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_newcomers_are_led_to_it(page):
    assert "(docs/architecture.md)" in (REPOSITORY / page).read_text(encoding="utf-8")
