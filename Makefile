# The two commands a newcomer needs are `make demo` and `make test`; `make help` lists the rest.
# Needed before them: a Rust toolchain with its linker, make, Python 3 and Node.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Outside the checkout, so that a clean one finds them again.
TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cloudsentinel/tools
WEB := functions/dashboard/web
WEB_SOURCES := $(shell find $(WEB)/src $(WEB)/index.html $(WEB)/package.json $(WEB)/vite.config.ts 2>/dev/null)
ADDR ?= 127.0.0.1:8080
DENY_VERSION := 0.20.2
EMULATOR_VERSION := 1.5.33
SAM_VERSION := 1.170.0
CFN_LINT_VERSION := 1.58.0
CHECKOV_VERSION := 3.3.30
CARGO_LAMBDA_VERSION := 1.9.2
PYSIGMA_VERSION := 2.0.1
PYSIGMA_SQLITE_VERSION := 2.1.1
EMULATOR := $(TOOLS)/emulator/bin/ministack
STACK_PYTHON := TOOLS=$(TOOLS) $(TOOLS)/emulator/bin/python -B

.PHONY: help demo test build profile web lint deny test-rust test-web test-sigma check-template functions package cost coldstart test-opensearch e2e drill-stack latency-stack clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	cd $(WEB) && npm ci --no-audit --no-fund

$(WEB)/dist/index.html: $(WEB)/node_modules/.package-lock.json $(WEB_SOURCES)
	cd $(WEB) && npm run build

web: $(WEB)/dist/index.html ## Build the web page

demo: web ## Replay an attack through all stages and serve the dashboard (ONCE=1: print a summary and end)
	cargo build --locked --bin sentinel
	target/debug/sentinel demo --listen $(ADDR) $(if $(ONCE),--once)

build: web ## Build the sentinel binary for use: target/release/sentinel
	cargo build --locked --release --bin sentinel

profile: ## Make profile/scan.profdata anew, which release builds are optimised by
	scripts/profile

test: lint test-web test-rust test-sigma check-template e2e deny ## Everything that continuous integration checks

lint: web
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

test-web: web
	cd $(WEB) && npm run check && npm test

# With the emulator and DynamoDB Local beside it, so that the AWS adapters are held to real stores.
test-rust: web
	TOOLS=$(TOOLS) scripts/with-stores cargo test --locked --workspace

test-sigma: $(TOOLS)/sigma/bin/sigma-$(PYSIGMA_VERSION)-$(PYSIGMA_SQLITE_VERSION) ## Hold what our engine matches to pySigma's SQLite backend
	cargo build --locked -p sentinel-detect --example hits
	$(TOOLS)/sigma/bin/python -B tests/sigma/differential.py target/debug/examples/hits

$(TOOLS)/sigma/bin/sigma-$(PYSIGMA_VERSION)-$(PYSIGMA_SQLITE_VERSION):
	python3 -m venv --clear $(TOOLS)/sigma
	$(TOOLS)/sigma/bin/pip install --quiet pysigma==$(PYSIGMA_VERSION) pysigma-backend-sqlite==$(PYSIGMA_SQLITE_VERSION)
	touch $@

check-template: $(TOOLS)/sam/bin/cfn-lint $(TOOLS)/checkov/bin/checkov ## Lint the templates; compare each policy with the code's calls
	scripts/check-template $(TOOLS)

$(TOOLS)/sam/bin/cfn-lint:
	python3 -m venv $(TOOLS)/sam
	$(TOOLS)/sam/bin/pip install --quiet aws-sam-cli==$(SAM_VERSION) cfn-lint==$(CFN_LINT_VERSION)

$(TOOLS)/checkov/bin/checkov:
	python3 -m venv $(TOOLS)/checkov
	$(TOOLS)/checkov/bin/pip install --quiet checkov==$(CHECKOV_VERSION)

functions: web ## Build the Lambda functions for use: target/release/*-lambda
	cargo build --locked --release --workspace --bins

package: web $(TOOLS)/sam/bin/cfn-lint $(TOOLS)/cargo-lambda/bin/cargo-lambda ## Package as users do, with cargo-lambda and with sam (ARCH=arm64 needs that Rust target)
	TOOLS=$(TOOLS) scripts/package $(or $(ARCH),x86_64)

$(TOOLS)/cargo-lambda/bin/cargo-lambda:
	python3 -m venv $(TOOLS)/cargo-lambda
	$(TOOLS)/cargo-lambda/bin/pip install --quiet cargo-lambda==$(CARGO_LAMBDA_VERSION)

cost: functions ## Measure what a million events cost, and write docs/cost.md's tables
	TOOLS=$(TOOLS) scripts/with-stores $(TOOLS)/emulator/bin/python -B scripts/measure/cost.py --write

coldstart: functions ## Measure start to first handled event of each function
	TOOLS=$(TOOLS) scripts/with-stores $(TOOLS)/emulator/bin/python -B scripts/measure/coldstart.py

deny: $(TOOLS)/bin/cargo-deny
	scripts/deny.sh $(TOOLS)/bin/cargo-deny

$(TOOLS)/bin/cargo-deny:
	cargo install cargo-deny --locked --version $(DENY_VERSION) --root $(TOOLS)

e2e: web $(EMULATOR) ## Deploy template.yaml on an emulated AWS, attack it and check what is seen and done
	$(STACK_PYTHON) tests/stack/test_trail.py
	$(STACK_PYTHON) tests/stack/test_stack.py
	$(TOOLS)/emulator/bin/python -B scripts/policies --calls target/stack/calls.json

test-opensearch: web ## Hold the search adapter to its suite on a real OpenSearch (needs JDK 17 and Maven)
	TOOLS=$(TOOLS) scripts/with-opensearch cargo test --locked -p sentinel-aws --test search

drill-stack: web $(EMULATOR) ## Run events through the deployed stack while functions are killed and AWS throttles (SEED=n)
	$(STACK_PYTHON) tests/stack/drill.py $(if $(SEED),--seed $(SEED))

latency-stack: functions $(EMULATOR) ## Measure event to alert and event to contained key on the emulator
	$(STACK_PYTHON) tests/stack/latency.py

# One pip call: a later one would break the emulator's pins.
$(EMULATOR):
	python3 -m venv $(TOOLS)/emulator
	$(TOOLS)/emulator/bin/pip install --quiet ministack==$(EMULATOR_VERSION) aws-sam-translator cryptography boto3

clean: ## Remove what was built
	cargo clean
	rm -rf $(WEB)/dist $(WEB)/node_modules .aws-sam
