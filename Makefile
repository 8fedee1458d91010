# Two commands do everything on a fresh clone: `make demo` and `make test`. Python 3.11 and make are enough.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROTOS := $(wildcard protos/related_news/v1/*.proto protos/related_news/internal/v1/*.proto)
export HF_HUB_OFFLINE ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test soak check lint types proto proto-check clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## Make the environment (done by every other command when needed)

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## Index the sample newsroom, serve it, fill a page over gRPC and show it
	@$(BIN)/related-news demo

serve: $(READY) ## Index the sample newsroom if there is no index yet, and leave the service running
	@$(BIN)/related-news demo --index-only
	@$(BIN)/related-news --data-dir .demo serve

test: $(READY) ## Run the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

soak: $(READY) ## Break the live catalog on purpose, for about an hour; figures go to benchmarks/results
	$(BIN)/python -m tests.soak damage
	$(BIN)/python -m tests.soak sequences
	$(BIN)/python -m tests.soak kills
	$(BIN)/python -m tests.soak load

check: $(READY) proto-check lint types test ## What CI runs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

proto: $(READY) ## Generate the checked-in Python code from protos/
	$(BIN)/python -m grpc_tools.protoc -I protos --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=protos --grpc_python_out=protos --mypy_out=quiet:protos --mypy_grpc_out=quiet:protos \
	  $(PROTOS:protos/%=%)

proto-check: $(READY)
	$(BIN)/python -m pytest -q tests/test_contract.py

clean: ## Remove the environment and the demo's data
	rm -rf $(VENV) .demo
