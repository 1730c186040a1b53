# The two commands of the README. Each sets up what it needs in .venv on a machine with Python 3.10 to 3.13: `demo` the
# small set without PyTorch, everything else all extras on top of it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUTPUT ?= demo-output

.PHONY: demo test graphs screenshots import-graph bench lint clean

$(VENV)/small: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed: $(VENV)/small
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@

graphs: $(VENV)/installed
	$(BIN)/python -m SAMLungSegLib.models.compact.onnx_export

demo: $(VENV)/small
	$(BIN)/samlungseg demo --output $(OUTPUT) $(if $(INPUT),--input "$(INPUT)")

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
	rm -rf $(VENV) $(OUTPUT)
