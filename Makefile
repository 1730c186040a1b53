# The two commands of the README. Each sets up what it needs in .venv on a machine with Python 3.10 to 3.13: `demo` the
# small set without PyTorch, `docs` what builds the site as well, everything else all extras.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUTPUT ?= demo-output

.PHONY: demo docs notebook failures test graphs screenshots import-graph bench lint clean

$(VENV)/small: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/docs: $(VENV)/small
	$(BIN)/pip install --quiet --editable ".[docs]"
	touch $@

$(VENV)/installed: $(VENV)/small
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@

graphs: $(VENV)/installed
	$(BIN)/python -m SAMLungSegLib.models.compact.onnx_export

demo: $(VENV)/small
	$(BIN)/samlungseg demo --output $(OUTPUT) $(if $(INPUT),--input "$(INPUT)")

docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python Testing/tools/site_links.py site

notebook: $(VENV)/small
	$(BIN)/python Testing/tools/notebook.py docs/tutorial.ipynb

failures: $(VENV)/small
	$(BIN)/python Testing/tools/failures.py --docs docs/failures.md

test: $(VENV)/installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

screenshots: $(VENV)/installed
	PYTHONPATH=Testing:SAMLungSeg $(BIN)/python -m bench.screenshots $(OUTPUT)

import-graph: $(VENV)/installed
	$(BIN)/python Testing/tools/import_graph.py docs/images/import_graph.png

bench: $(VENV)/installed
	$(BIN)/python Testing/benchmarks

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(OUTPUT) site
