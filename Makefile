# Thin names for commands that README.md also spells out. Everything is installed into .venv.
# The first Python that is new enough; looked for only when .venv is made.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell \
  $p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $p)) python3)
VENV ?= .venv
BIN := $(VENV)/bin
LAB_OPTIONS ?=
SEARCH_OPTIONS ?=
WORKERS ?= 2
PYTEST_OPTIONS ?=
HISTORY_OPTIONS ?=

.PHONY: help lab search test check notebooks course history bench clean sound

help:
	@echo 'make lab        install if needed, open JupyterLab on lesson 00'
	@echo 'make search     install if needed, start the search page on this machine; Ctrl-C ends it'
	@echo 'make test       install if needed, run the whole test suite'
	@echo 'make check      the quick part of it: lint, notebooks up to date, fast tests'
	@echo 'make notebooks  rebuild every notebook from its master and run the solved ones'
	@echo 'make course     the same, then write the tables of README.md from what was measured'
	@echo 'make history    print what each committed run of the lessons measured, and what moved'
	@echo 'make bench      install their peers if needed, run the benchmarks'
	@echo 'make clean      remove .venv; results in artifacts/ stay'

lab: $(VENV)/.has-lab
	$(BIN)/jupyter lab $(LAB_OPTIONS) notebooks/00_start_here.ipynb

search: $(VENV)/.has-search
	$(BIN)/python data_scripts/search_page.py $(SEARCH_OPTIONS)

test: $(VENV)/.has-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(PYTEST_OPTIONS)

check: $(VENV)/.has-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python notebooks/build.py --check
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadscope -m 'not slow'

notebooks: $(VENV)/.has-test
	$(BIN)/python notebooks/build.py --execute

course: export COURSE_PROFILE = cpu
course: notebooks
	$(BIN)/python data_scripts/write_readme.py

history: $(VENV)/.has-lab
	$(BIN)/python data_scripts/history.py $(HISTORY_OPTIONS)

bench: $(VENV)/.has-bench
	for file in tests/benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV)

# The stamps are newer than pyproject.toml as long as nothing has to be installed; `test` includes `lab`, which includes `search`.
$(VENV)/.has-lab: pyproject.toml | sound $(BIN)/pip
	@echo 'Installing the course into $(VENV) (some minutes the first time) ...'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[lab]'
	@touch $(VENV)/.has-search $@

$(VENV)/.has-search: pyproject.toml | sound $(BIN)/pip
	@echo 'Installing the course and its search page into $(VENV) (some minutes the first time) ...'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[search]'
	@touch $@

$(VENV)/.has-test: pyproject.toml | sound $(BIN)/pip
	@echo 'Installing the course and its tests into $(VENV) (some minutes the first time) ...'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $(VENV)/.has-lab $(VENV)/.has-search $@

$(VENV)/.has-bench: pyproject.toml | sound $(BIN)/pip
	@echo 'Installing the course, its tests and the peers of the benchmarks into $(VENV) (some minutes the first time) ...'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $(VENV)/.has-lab $(VENV)/.has-search $(VENV)/.has-test $@

# A .venv that was moved, or whose Python is gone, starts nothing any more: better said here than by a shell.
sound:
	@test ! -e $(BIN)/pip || test -x "$$(sed -n '1s/^#! *//p' $(BIN)/pip)" || \
	  { echo '$(VENV) was moved, or its Python is gone: make clean, then make $(MAKECMDGOALS) again' >&2; exit 1; }

# Debian's python3 has no pip for new environments until python3-venv is installed: then an own pip is brought in.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'The course needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
	  { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) && \
	    $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; } || \
	  { rm -rf $(VENV); echo 'No virtual environment can be made: install python3-venv, or use conda (README.md)' >&2; exit 1; }
