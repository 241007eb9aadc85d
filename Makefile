# make demo | test | soak | bench | lock | env | clean
#
# PYTHON chooses the interpreter (3.11 to 3.13): make test PYTHON=python3.12
# The environment is made once in .venv, from the lock files; a second `make` finds it ready.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
TEST_STAMP := $(VENV)/.ready-for-tests
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --universal $(UPGRADE) \
	--no-emit-index-url --no-emit-find-links --python-version 3.11

# What `cmsenv` and ~/.local leave behind must not reach this project's Python.
unexport PYTHONPATH
unexport PYTHONHOME
unexport VIRTUAL_ENV
export PYTHONNOUSERSITE := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test soak bench lock env env-test clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,4s/^# \{0,1\}//p' Makefile

demo: $(STAMP)
	@sh tests/demo.sh

test: $(TEST_STAMP)
	ruff check .
	ruff format --check .
	mypy
	pytest -n 2 --dist loadfile

# What is about losing nothing: kills, interrupts, repeated commands, workers and servers that go.
LOSSES := tests/test_kills.py tests/system/test_files.py tests/system/test_heartbeat.py \
	tests/system/test_interrupts.py tests/system/test_units.py tests/system/test_places.py \
	tests/system/test_remote.py \
	tests/system/test_engine.py tests/system/test_program.py tests/system/clusters \
	tests/formats/test_manifests.py tests/formats/test_runs.py tests/formats/test_skims.py \
	tests/formats/ntuples/test_servers.py tests/stages/preprocessing/test_repeating.py \
	tests/stages/training/test_keeping.py tests/stages/prediction/test_outputs.py \
	tests/results/report/test_pdf.py tests/test_engines.py tests/test_slurm.py \
	tests/test_remote_inputs.py tests/test_lost_store.py tests/test_full_disks.py \
	tests/test_listening.py

# Every stage killed at fifty moments, and all tests of losses twenty times: an hour or two. More
# of them than there are cores run side by side, because they mostly wait.
soak: $(TEST_STAMP)
	pytest --soak -n 4 --dist load tests/test_kills.py
	for i in $$(seq 20); do pytest -q -n 4 --dist loadfile $(LOSSES) || exit 1; done

bench: $(TEST_STAMP)
	python -m benchmarks

env: $(STAMP)
env-test: $(TEST_STAMP)

$(STAMP): requirements.txt
	@$(call install,requirements.txt)
	@touch $@

$(TEST_STAMP): requirements.txt requirements-test.txt
	@$(call install,requirements-test.txt)
	@touch $(STAMP) $@

# `make lock UPGRADE=--upgrade` takes newer versions within the bounds of requirements*.in.
# The lock files hold exact versions for every supported Python and name no package index.
lock:
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-remote.in -o requirements-remote.txt
	$(COMPILE) requirements-test.in -o requirements-test.txt

# The environment and every cache; not data/, outputs/ or the MLflow store.
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

define install
set -e; \
if [ ! -x $(BIN)/python ]; then \
	command -v $(PYTHON) >/dev/null || { echo "there is no $(PYTHON): choose an interpreter with make PYTHON=..." >&2; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), but 3.11 to 3.13 is needed: choose one with make PYTHON=python3.12" >&2; exit 1; }; \
	echo "making $(VENV) with $$($(PYTHON) -V)"; \
	if command -v uv >/dev/null; then uv venv --quiet --python "$$(command -v $(PYTHON))" $(VENV); \
	else $(PYTHON) -m venv $(VENV); fi; \
fi; \
echo "installing $(1)"; \
if command -v uv >/dev/null; then uv pip install --quiet --compile-bytecode --python $(BIN)/python -r $(1); \
else \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(1); \
fi
endef
