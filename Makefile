# `make run` and `make test` work on a fresh clone. They need Python, make and a package index.
PYTHON ?= python3
JOBS ?= 0
BIN := .venv/bin
READY := .venv/.ready
MODELS := models
BUF_VERSION := 1.75.0
BUF := .tools/node_modules/.bin/buf
HELM := .tools/bin/helm
COVERAGE_FLOOR := 95
PYTEST = $(BIN)/python -m pytest

.PHONY: help setup run test test-fast test-random test-lowest coverage lint format docs proto proto-release buf bench \
	bench-serving constraints helm manifests web web-client wheel-test image-test clean
.DEFAULT_GOAL := help

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(READY) ## Create .venv with everything that the other targets need

$(READY): pyproject.toml constraints.txt scripts/setup_env.py
	$(PYTHON) scripts/setup_env.py
	@touch $@

run: $(READY) ## Serve the embedded model on 127.0.0.1: HTTP 8080, gRPC 50051
	$(BIN)/codec-diffusers serve --models-dir $(MODELS)

test: $(READY) ## Run all tests (JOBS=4 for four processes)
	$(PYTEST) -n $(JOBS)

test-fast: $(READY) ## Run the tests that are not marked slow
	$(PYTEST) -n $(JOBS) -m "not slow"

test-random: $(READY) ## Run all tests in random order
	$(PYTEST) -n $(JOBS) -p randomly

test-lowest: $(READY) ## Run the fast tests with the lowest allowed versions
	$(BIN)/python -m scripts.lowest_versions

coverage: $(READY) ## Run `make test` and require a minimum of branch coverage
	$(BIN)/coverage erase
	$(MAKE) test PYTEST="$(BIN)/coverage run -m pytest"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --fail-under $(COVERAGE_FLOOR)

lint: $(READY) ## Check style, types, the generated code and the workflow files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m scripts.generate_proto --check
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## Build the documentation site in build/site and check its links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

proto: $(READY) ## Generate codec_wire/generated and Envoy's descriptors from proto/
	$(BIN)/python -m scripts.generate_proto
	$(BIN)/python -m scripts.envoy_descriptors

buf: $(BUF) ## Lint the schema and compare it with the released one (needs npm)
	$(BUF) lint
	$(BUF) breaking --against proto/released.binpb

proto-release: $(BUF) ## Record the current schema as the released one
	$(BUF) build -o proto/released.binpb

$(BUF):
	npm install --silent --no-audit --no-fund --prefix .tools @bufbuild/buf@$(BUF_VERSION)

bench: $(READY) ## Compare the speed of encoding and decoding with named peers; fails if one is faster
	$(BIN)/python -m bench.client_decoding
	$(BIN)/python -m bench.encode

bench-serving: $(READY) ## Measure the servers and write docs/benchmarks.md (about 20 minutes; Linux)
	$(BIN)/python -m bench.serving --write

constraints: $(READY) ## Write the installed versions to constraints.txt
	$(BIN)/python -m scripts.write_constraints

helm: $(HELM) ## Install helm in .tools, for the tests of the chart (Linux, x86-64)

$(HELM): scripts/install_helm.py | $(READY)
	$(BIN)/python -m scripts.install_helm

manifests: $(READY) $(HELM) ## Write deploy/kubernetes and the settings in the chart's values.schema.json
	$(BIN)/python -m scripts.kubernetes_manifests

web: ## Build the page that servers show at / (needs npm)
	cd web/page && npm install --silent --no-audit --no-fund --no-package-lock && npm run typecheck && npm run build

web-client: ## Build and test the TypeScript client in web/client (needs npm)
	cd web/client && npm install --silent --no-audit --no-fund --no-package-lock && npm run build && npm run typecheck && npm test

wheel-test: ## Build the wheel, install it outside the checkout and use it
	$(PYTHON) -m scripts.wheel_test

image-test: ## Build both container images with buildah and use them (Debian, root)
	$(PYTHON) -m scripts.image_test

clean: ## Remove the environment, downloaded models and everything that was built
	rm -rf .venv .tools $(MODELS) build dist .coverage .coverage.*
