# Two commands do everything on a fresh clone: `make demo` and `make test`. Python 3.11 and make are enough.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROTOS := $(wildcard protos/related_news/v1/*.proto protos/related_news/internal/v1/*.proto)
export HF_HUB_OFFLINE ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-fast soak bench bench-full bench-report check lint types proto proto-check clean

# Benchmarks: of these articles, the sample newsroom unless told otherwise. What is made of them is made once.
SAMPLE := indexer/sample/newsroom.jsonl
ARTICLES ?= $(SAMPLE)
BENCH := .bench
PASSAGES := $(BENCH)/passages-$(firstword $(shell echo '$(ARTICLES)' | cksum)).npy
BENCH_VENV ?= .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready
BENCH_PYTHON := $(BENCH_VENV)/bin/python

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

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

test-fast: $(READY) ## Run the tests that need neither the model nor processes, in under a minute
	$(BIN)/python -m pytest -n 2 --dist loadfile --fast

soak: $(READY) ## Break the live catalog on purpose, for about an hour; figures go to benchmarks/results
	$(BIN)/python -m tests.soak damage
	$(BIN)/python -m tests.soak sequences
	$(BIN)/python -m tests.soak kills
	$(BIN)/python -m tests.soak load

bench: export BENCHMARK_RESULTS := $(BENCH)/results
bench: $(PASSAGES) ## Measure search and service in short; fails on a gross regression of their ratios only
	rm -rf $(BENCHMARK_RESULTS)
	$(BIN)/python -m benchmarks.core run $(PASSAGES) --rows 10000
	$(BIN)/related-news --data-dir $(BENCH)/newsroom index $(SAMPLE)
	$(BIN)/python -m benchmarks.service $(BENCH)/newsroom --short
	$(BIN)/python -m benchmarks check $(BENCHMARK_RESULTS)/*.json

bench-full: $(PASSAGES) $(BENCH_READY) ## Measure everything, peers too, for hours; ARTICLES="a.jsonl.gz b.jsonl.gz" of your own
	$(BENCH_PYTHON) -m benchmarks.core run $(PASSAGES) --rows 10000 --rows 100000 --rows 1000000 --rows 10000000
	$(BENCH_PYTHON) -m benchmarks.peers run $(PASSAGES) --rows 10000 --rows 100000 --rows 1000000
	set -e; for file in $(ARTICLES); do \
	  $(BENCH_PYTHON) -m benchmarks.indexing $$file; \
	  $(BENCH_PYTHON) -m indexer --data-dir $(PASSAGES:.npy=.index) index $$file; \
	done
	set -e; for rows in 100000 1000000; do \
	  $(BENCH_PYTHON) -m benchmarks.reindexing $(firstword $(ARTICLES)) --articles $$rows --scratch $(BENCH); \
	  archive=$(PASSAGES:.npy=)-$$rows.index; \
	  test -e $$archive/snapshots/CURRENT || { rm -rf $$archive; $(BENCH_PYTHON) -m benchmarks.big_archive \
	    $(PASSAGES) $$archive --rows $$rows --like $(PASSAGES:.npy=.index); }; \
	  $(BENCH_PYTHON) -m benchmarks.service $$archive --drafts $(firstword $(ARTICLES)); \
	  $(BENCH_PYTHON) -m benchmarks.profile_call $$archive; \
	done
	$(BENCH_PYTHON) -m benchmarks.service $(PASSAGES:.npy=.index)
	$(BENCH_PYTHON) -m benchmarks.peers answers $(PASSAGES:.npy=.index)
	$(BENCH_PYTHON) -m benchmarks.peers agreement $(PASSAGES)
	$(BENCH_PYTHON) -m benchmarks.ranking $(PASSAGES:.npy=.index)
	$(BENCH_PYTHON) -m benchmarks.affected $(PASSAGES:.npy=.index)
	$(MAKE) bench-report

bench-report: $(BENCH_READY) ## Write the benchmarks' tables, the README's headline and the plots anew from kept results
	$(BENCH_PYTHON) -m benchmarks report

$(PASSAGES): $(ARTICLES) | $(READY)
	@mkdir -p $(BENCH)
	$(BIN)/python -m benchmarks.embed_passages $(ARTICLES) --to $@

$(BENCH_READY): pyproject.toml constraints.txt constraints-bench.txt
	@test -x $(BENCH_PYTHON) || $(PYTHON) -m venv $(BENCH_VENV) || python3 -m venv $(BENCH_VENV)
	$(BENCH_PYTHON) -m pip install --quiet --constraint constraints.txt --constraint constraints-bench.txt \
	  --editable '.[bench]'
	@touch $@

check: $(READY) proto-check lint types test ## What CI runs, beside demo and bench

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

clean: ## Remove the environments and the data of demo and benchmarks
	rm -rf $(VENV) $(BENCH_VENV) .demo $(BENCH)
