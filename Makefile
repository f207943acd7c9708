# Everything starts here: `make run` and `make test` work on a fresh clone and need Python, make and a package index.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
MODELS := models
BUF_VERSION := 1.75.0
BUF := .tools/node_modules/.bin/buf

.PHONY: help setup run test lint format proto proto-release buf bench constraints image-test clean
.DEFAULT_GOAL := help

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv with everything in it

$(READY): pyproject.toml constraints.txt core/pins.txt $(wildcard requirements/*.txt)
	$(PYTHON) scripts/setup_env.py
	@touch $@

run: $(READY) ## Serve the embedded model on 127.0.0.1, HTTP 8080 and gRPC 50051
	$(BIN)/codec-diffusers serve --models-dir $(MODELS)

test: $(READY) ## Run the tests
	$(BIN)/python -m pytest

lint: $(READY) ## Check style, types and the generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m scripts.generate_proto --check

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(READY) ## Generate codec_wire/generated from proto/
	$(BIN)/python -m scripts.generate_proto

buf: $(BUF) ## Lint the schema, and compare it with the released one (needs npm)
	$(BUF) lint
	$(BUF) breaking --against proto/released.binpb

proto-release: $(BUF) ## Make the schema as it stands the one that later ones must not break
	$(BUF) build -o proto/released.binpb

$(BUF):
	npm install --silent --no-audit --no-fund --prefix .tools @bufbuild/buf@$(BUF_VERSION)

bench: $(READY) ## Measure encoding and decoding against the reference encoder
	$(BIN)/python -m bench.encode

constraints: $(READY) ## Write constraints.txt from what .venv holds
	$(BIN)/python -m scripts.write_constraints

image-test: ## Build the Dockerfile with buildah and start it once (Debian, root)
	$(PYTHON) -m scripts.image_test

clean: ## Remove what was made here
	rm -rf .venv .tools $(MODELS) build
