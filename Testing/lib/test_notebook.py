"""The notebook of docs/ runs from top to bottom, is a notebook, and becomes a page."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Testing" / "tools"))
from notebook import as_markdown, run_notebook  # noqa: E402

TUTORIAL = json.loads((REPOSITORY / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))


def code(*lines: str, outputs=()) -> dict:
    return {"cell_type": "code", "id": "a", "metadata": {}, "source": list(lines), "outputs": list(outputs)}


def kinds(notebook: dict) -> list[list[str]]:
    return [[one["output_type"] for one in cell.get("outputs", ())] for cell in notebook["cells"]]


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom_and_its_outputs_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert kinds(run_notebook(TUTORIAL)) == kinds(TUTORIAL)


def test_the_tutorial_is_a_notebook_of_format_4_5():
    assert set(TUTORIAL) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (TUTORIAL["nbformat"], TUTORIAL["nbformat_minor"]) == (4, 5)
    common = {"cell_type", "id", "metadata", "source"}
    for cell in TUTORIAL["cells"]:
        assert set(cell) == common | ({"execution_count", "outputs"} if cell["cell_type"] == "code" else set())
    names = [cell["id"] for cell in TUTORIAL["cells"]]
    assert len(set(names)) == len(names)


def test_the_pictures_of_the_tutorial_are_small():
    _, pictures = as_markdown(TUTORIAL, "tutorial")
    assert len(pictures) == 3 and sum(map(len, pictures.values())) < 200_000


def test_a_cell_keeps_what_it_printed_its_last_value_and_its_figures():
    draws = code("import matplotlib.pyplot as plt\n", "figure = plt.figure(figsize=(1, 1))\n", "print('x')\n", "2 + 3")
    (cell,) = run_notebook({"cells": [draws]})["cells"]
    printed, value, figure = cell["outputs"]
    assert printed["text"] == "x\n" and value["data"] == {"text/plain": "5"} and cell["execution_count"] == 1
    assert base64.b64decode(figure["data"]["image/png"]).startswith(b"\x89PNG")


def test_cells_see_the_names_of_earlier_ones_and_an_error_ends_the_run():
    assert run_notebook({"cells": [code("a = 1"), code("a")]})["cells"][1]["outputs"][0]["data"] == {"text/plain": "1"}
    with pytest.raises(NameError):
        run_notebook({"cells": [code("nowhere")]})


def test_a_page_shows_sentences_code_outputs_and_pictures_in_their_order():
    picture = {"output_type": "display_data", "data": {"image/png": base64.b64encode(b"PNG").decode()}}
    printed = {"output_type": "stream", "name": "stdout", "text": "x\n"}
    text = {"cell_type": "markdown", "source": ["# A\n", "b"]}
    page, pictures = as_markdown({"cells": [text, code("print('x')", outputs=[printed, picture])]}, "n")
    assert page == (
        "# A\nb\n\n```python\nprint('x')\n```\n\n```text\nx\n```\n\n![What the cell above draws](n_0.png)\n"
    )
    assert pictures == {"n_0.png": b"PNG"}
