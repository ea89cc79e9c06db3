# Tasks of this repository. `make help` lists them; each target installs what it needs.
#
# The work is in the programs that are called here: cargo, e2e/mesh (installs), e2e/cluster/cluster (the cluster),
# e2e/quickstart/quickstart and e2e/demo/demo (the tours), e2e/suite (the tests). Continuous integration runs `make check test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export PATH := $(PATH):$(HOME)/.cargo/bin
# Committed file of the generated definitions of the chart.
CRDS := charts/smidge/files/crds.yaml

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: quickstart
quickstart: ## from a bare clone to a running mesh without Kubernetes, with a tour: minutes; also without root
	@e2e/quickstart/quickstart up

.PHONY: quickstart-down
quickstart-down: ## end all that `make quickstart` has started
	@e2e/quickstart/quickstart down

.PHONY: demo
demo: ## from a bare clone to a running bookstore in a real cluster, with a tour
	@e2e/demo/demo up

.PHONY: demo-down
demo-down: ## remove all that `make demo` has made
	@e2e/demo/demo down

.PHONY: check
check: ## formatting, lints, house rules, generated files
	@e2e/suite check

.PHONY: test
test: ## every test: unit, golden, property, real Envoys, a real API server, a real cluster
	@e2e/suite test

.PHONY: test-local
test-local: ## the tests that need no cluster
	@e2e/suite local

.PHONY: test-cluster
test-cluster: ## the tests in a real cluster; only those that match FILTER, in the files TESTS
	@e2e/suite cluster

.PHONY: soak
soak: ## tests that run too long for `make test`; run by hand before a release
	@e2e/suite soak

.PHONY: soak-access
soak-access: ## test access with a million decisions, and splits, against a reference; SMIDGE_SEED repeats a run
	@e2e/suite soak-access

.PHONY: fuzz
fuzz: ## fuzz the input of peers and users, FUZZ_SECONDS (60) for each target, or for those in TARGETS
	@e2e/fuzz run

.PHONY: soak-properties
soak-properties: ## run every property test with 20,000 cases, or PROPTEST_CASES; two slow ones with a tenth
	@e2e/suite soak-properties

.PHONY: bench
bench: ## measure the release program, end to end; ARGS are those of `smidge-bench run`
	@e2e/bench/bench $(ARGS)

.PHONY: bench-growth
bench-growth: ## measure the growth of cost, and draw it into docs/growth; ARGS as in `e2e/bench/bench help`
	@e2e/bench/bench growth $(ARGS)

.PHONY: bench-hops
bench-hops: ## measure each hop of the pipeline by itself; ARGS are those of criterion, such as a filter
	@e2e/mesh compiler
	@cargo bench --quiet --locked --package smidge --bench hops -- --quiet $(ARGS)

.PHONY: bench-sidecars
bench-sidecars: ## measure what sidecars add to a request; ARGS are those of `smidge-bench sidecars measure`
	@e2e/bench/bench sidecars $(ARGS)

.PHONY: crds
crds: ## write the generated definitions into the chart
	cargo run --quiet --locked --package smidge -- crds > $(CRDS).new
	mv $(CRDS).new $(CRDS)

.PHONY: build
build: ## build the programs, optimised
	@e2e/mesh build

.PHONY: images
images: build ## build the images; prints the archives
	@e2e/cluster/cluster images
	@for name in smidge bookstore; do \
	    e2e/cluster/cluster image $$name "$${CARGO_TARGET_DIR:-target}/release/$$name"; done

.PHONY: clean
clean: ## remove the cluster and the build output of cargo; the cache remains (~/.cache/smidge)
	@e2e/cluster/cluster clean
	@cargo clean
