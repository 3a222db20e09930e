# `make` prints the targets. Each of them sets up what it needs, once, from pyproject.toml and constraints.txt:
# in .venv, or inside the activated conda environment.

PAPERS := forget_vectors ispf lfssd nabla_tau
PRESET ?= digits
SEEDS  ?=
JOBS   ?= 2
PYTHON ?= python3
VENV   ?= .venv

.DEFAULT_GOAL := help

# --- which Python --------------------------------------------------------------------------------------------------
# An activated conda environment other than base is used as it is, unless VENV is given.
CONDA :=
ifeq ($(origin VENV),file)
ifneq ($(CONDA_PREFIX),)
ifneq ($(CONDA_DEFAULT_ENV),base)
CONDA := $(wildcard $(CONDA_PREFIX)/bin/python)
endif
endif
endif
ENV    := $(if $(CONDA),$(CONDA_PREFIX),$(VENV))
PY     := $(ENV)/bin/python
UNDER  := $(if $(filter /%,$(ENV)),$(ENV),$(CURDIR)/$(ENV))/var/unlearnlib

# --- the same conditions for every process ---------------------------------------------------------------------------
# One thread per process: reproducible, and faster when processes run side by side.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export NUMEXPR_NUM_THREADS := 1
export VECLIB_MAXIMUM_THREADS := 1
# Kernels of this environment, without the personal settings of matplotlib and IPython. A backend from outside would
# take the figures out of the notebooks.
unexport MPLBACKEND
export MPLCONFIGDIR := $(UNDER)/matplotlib
export IPYTHONDIR := $(UNDER)/ipython
export JUPYTER_RUNTIME_DIR := $(UNDER)/jupyter
export JUPYTER_PREFER_ENV_PATH := 1
export PYTHONNOUSERSITE := 1
export PIP_NO_INPUT := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

LIB    := $(PY) -m unlearnlib
RUN     = $(LIB) run $(PAPERS) --preset $(PRESET) $(if $(SEEDS),--seeds $(SEEDS) )--jobs $(JOBS) --recompute
BESIDE  = --no-print-directory -j$(JOBS)
LINT   := $(PY) -m ruff check unlearnlib tests notebooks
# The kernel is this Python, whatever the notebook's metadata name; nothing is cached, the first difference stops.
NBVAL  := $(PY) -m pytest --nbval --nbval-current-env --nbval-cell-timeout=600 -x -p no:cacheprovider notebooks

.PHONY: help install figures forget_vectors ispf lfssd nabla_tau verify records test nbval notebooks lint bench lab clean

help: ## this list
	@echo "make TARGET [PRESET=digits] [PAPERS=\"forget_vectors ispf lfssd nabla_tau\"] [SEEDS=n] [JOBS=2] [PYTHON=python3] [VENV=.venv]"
	@awk -F ':.*## ' '/^[a-z_]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# --- what a reader wants ---------------------------------------------------------------------------------------------
figures: $(ENV)/.unlearnlib ## run the methods, draw every figure, table and verdict into figures/
	$(RUN)
	@$(MAKE) $(BESIDE) $(PAPERS:%=execute-%)
	$(LIB) draw --committed

forget_vectors: ## the same for one paper: Forget Vectors at Play
	@$(MAKE) --no-print-directory figures PAPERS=forget_vectors

ispf: ## the same for ISPF: Toward Efficient Data-Free Unlearning
	@$(MAKE) --no-print-directory figures PAPERS=ispf

lfssd: ## the same for Loss-Free Machine Unlearning
	@$(MAKE) --no-print-directory figures PAPERS=lfssd

nabla_tau: ## the same for Nabla-tau: Gradient-based and Task-Agnostic Machine Unlearning
	@$(MAKE) --no-print-directory figures PAPERS=nabla_tau

verify: $(ENV)/.unlearnlib ## compare what this machine computes with the reference records
	$(RUN)
	$(LIB) verify $(PAPERS) --preset $(PRESET)$(if $(SEEDS), --seeds $(SEEDS))

lab: $(ENV)/.unlearnlib ## open the notebooks in JupyterLab
	$(PY) -m jupyterlab notebooks

# --- what a developer wants ------------------------------------------------------------------------------------------
test: $(ENV)/.unlearnlib ## lint, unit tests, and the notebooks against their stored outputs
	$(LINT)
	$(PY) -m pytest
	$(NBVAL)

nbval: $(ENV)/.unlearnlib ## only the notebooks against their stored outputs
	$(NBVAL)

lint: $(ENV)/.unlearnlib ## only the style of code and notebooks
	$(LINT)

notebooks: $(ENV)/.unlearnlib ## execute the notebooks in place: their stored outputs change
	@$(MAKE) $(BESIDE) $(PAPERS:%=in-place-%)

records: $(ENV)/.unlearnlib ## take this machine's records as the new reference, draw them, then `make notebooks`
	$(LIB) records $(PAPERS) --preset $(PRESET)
	$(LIB) draw $(PAPERS) --preset $(PRESET)
	@$(MAKE) --no-print-directory notebooks

bench: $(ENV)/.unlearnlib ## time the methods
	$(LIB) bench

PARTS := $(PAPERS:%=execute-%) $(PAPERS:%=in-place-%)
.PHONY: $(PARTS)
$(PARTS): $(ENV)/.unlearnlib
$(PAPERS:%=execute-%): execute-%:
	$(LIB) notebook $* --preset $(PRESET) --recompute
$(PAPERS:%=in-place-%): in-place-%:
	$(LIB) notebook $* --in-place

# --- the environment -------------------------------------------------------------------------------------------------
install: $(ENV)/.unlearnlib ## fill .venv (2.5 minutes, 6 GB, once), or the activated conda environment
	@echo "unlearnlib is installed in $(ENV)"

clean: ## remove .venv and caches, never figures
	@if [ -e "$(VENV)/.made-by-make" ]; then rm -rf "$(VENV)"; \
	elif [ -e "$(VENV)" ]; then echo "$(VENV) was not made by make: left alone."; fi
	rm -rf "$(ENV)/.unlearnlib" .pytest_cache .ruff_cache build unlearnlib.egg-info
	find unlearnlib tests notebooks -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# The stamp $(ENV)/.unlearnlib holds what an installation depends on: Python, this folder (the package is installed in
# place), and the two files. It is removed first and written last, so an interrupted installation is repeated, from an
# empty folder if make has made the folder. A lock, which ends with the process, lets a second make wait for the first.
HERE   = $$($(PY) -V 2>/dev/null) in $(CURDIR)
RECORD = echo "$(HERE), files $$(cat pyproject.toml constraints.txt | cksum)"
LOCK   = import fcntl; fcntl.flock(9, fcntl.LOCK_EX
ifneq ($(strip $(shell cat $(ENV)/.unlearnlib 2>/dev/null)),$(strip $(shell $(RECORD))))
.PHONY: $(ENV)/.unlearnlib
endif

$(ENV)/.unlearnlib:
	@set -e; \
	python=$(PY); [ -x $$python ] || python=$(PYTHON); \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or later is needed: give one with PYTHON=..." >&2; exit 1; }; \
	exec 9>> pyproject.toml; \
	$$python -c '$(LOCK) | fcntl.LOCK_NB)' 2> /dev/null || { \
	    echo "Another make is installing: waiting for it."; $$python -c '$(LOCK))'; }; \
	stamp=$$(cat $@ 2>/dev/null || true); \
	if [ "$$stamp" = "$$($(RECORD))" ]; then exit 0; fi; \
	rm -f $@; \
	if [ -n "$(CONDA)" ]; then :; \
	elif [ -e $(VENV)/.made-by-make ]; then \
	    case "$$stamp" in "$(HERE),"*) ;; \
	    *) echo "$(VENV) is incomplete or from elsewhere: made again."; rm -rf $(VENV);; esac; \
	elif [ ! -x $(PY) ] && [ -n "$$(ls -A $(VENV) 2>/dev/null)" ]; then \
	    echo "$(VENV) is not a virtual environment: give another VENV=..., or remove it." >&2; exit 1; \
	fi; \
	if [ ! -x $(PY) ]; then mkdir -p $(VENV); touch $(VENV)/.made-by-make; $(PYTHON) -m venv $(VENV); fi; \
	echo "Installing into $(ENV), once: about 2.5 minutes and 6 GB if it is empty."; \
	trap 'exit 1' INT TERM; \
	fill() { $(PY) -m pip install $(if $(CONDA),,-c constraints.txt) -e '.[notebooks,tests]'; }; \
	fill || { echo "Once more: a package index may not have answered."; fill; }; \
	$(PY) -c 'import matplotlib.pyplot, torchvision'; \
	$(RECORD) > $@
