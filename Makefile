# SPDX-License-Identifier: Apache-2.0
#
# make            says what there is
# make build      makes bin/neighpin
#
# Everything that is not Go's own business is done by Go programs in e2e/; this
# file only gives the ways in a name.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
# How long each fuzz target runs.
FUZZTIME ?= 30s
# Extra arguments for go test, such as TESTFLAGS='-run TestResolve -count 1'.
TESTFLAGS ?=
# How much goes wrong in test-chaos, full or bounded, and the seed that it is drawn from; any, if empty.
CHAOS ?= full
SEED ?=
# Where the tests' totals are added up; .ci/run sets it.
TOTALS ?=
# The image's name; with PUSH=yes it is pushed there.
IMAGE ?= neighpin:$(VERSION)
PUSH ?=

# The file VERSION says which release the tree is, or becomes; `make manifests` takes it to the chart and the manifests. A build is
# called so where that commit is tagged with it and unchanged; else it comes before the release: v0.1.0-dev.g59b5ab8e0c1f. Without
# git there is still a name.
RELEASE := $(shell cat VERSION)
VERSION ?= $(shell git describe --tags --exact-match --dirty --match '$(RELEASE)' 2>/dev/null || { \
  commit=$$(git describe --always --abbrev=12 --exclude '*' --dirty 2>/dev/null) && echo "$(RELEASE)-dev.g$$commit" || echo '$(RELEASE)-dev'; })
LDFLAGS := -s -w -X main.version=$(VERSION)
# What the image says it was made of. When is the commit's own time, unless SOURCE_DATE_EPOCH has another, so that every build gives one digest.
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

# Programs of the distribution that an unprivileged PATH may lack.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# The core suite on one release of containerd; TESTFLAGS with a -run of its own selects other tests.
core = echo "--- core suite on containerd $(1)" && cd e2e && export NEIGHPIN_E2E_CONTAINERD=$(1) && $(GO) run ./cmd/setup node && \
  $(GO) test -race -json -count 1 -timeout 15m $(TESTFLAGS) ./suite | $(REPORT)

REPORT := $(CURDIR)/bin/testreport $(if $(TOTALS),-totals $(TOTALS))

.PHONY: help
help: ## Say what there is (this text)
	@echo "neighpin $(VERSION)"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Needed: Go, gcc, git, make. What else the tests and the demo use, they install with"
	@echo "apt-get or build from Go modules, once, into a cache; both say so when they do it."

##@ Building

.PHONY: build
build: ## Build bin/neighpin, static
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/neighpin ./plugin

.PHONY: image
image: ## Build the container image for amd64 and arm64, bin/image.tar, without an engine; IMAGE names it, PUSH=yes pushes it
	@cd e2e && $(GO) run ./cmd/image -name '$(IMAGE)' -version '$(VERSION)' -revision '$(REVISION)' \
	  -archive $(CURDIR)/bin/image.tar $(if $(PUSH),-push)

.PHONY: image-docker
image-docker: ## Build the same image with docker, for this machine; IMAGE names it
	DOCKER_BUILDKIT=1 docker build --build-arg VERSION='$(VERSION)' --build-arg REVISION='$(REVISION)' \
	  --build-arg SOURCE_DATE_EPOCH="$${SOURCE_DATE_EPOCH:-$$(git log -1 --no-show-signature --format=%ct)}" -t '$(IMAGE)' .

.PHONY: manifests
manifests: ## Render deploy/install.yaml from the Helm chart
	@cd e2e && $(GO) run ./cmd/manifests

##@ Releasing

RELEASED := $(CURDIR)/bin/release

.PHONY: release
release: ## Make the files of a release for amd64 and arm64 in bin/release: programs, modules, image, chart, checksums
	@rm -rf $(RELEASED)
	@cd e2e && $(GO) run ./cmd/release make -version '$(VERSION)' -revision '$(REVISION)' -out $(RELEASED)
	@cd $(RELEASED) && cat SHA256SUMS && sha256sum --check --quiet SHA256SUMS

# Run by the workflow release.yaml, which has the credentials; docs/release.md says what comes before it.
.PHONY: publish
publish: ## Push the image of bin/release, and make GitHub's release of its files, by gh; only where VERSION is tagged
	@cd e2e && $(GO) run ./cmd/release push -version '$(VERSION)' -out $(RELEASED)
	gh release create '$(VERSION)' --verify-tag --title 'neighpin $(VERSION)' --notes-file $(RELEASED)/NOTES.md $(RELEASED)/*

##@ Testing

.PHONY: demo
demo: root-only ## Show a gVisor pod without neighpin, then one with it (as root)
	@echo "Compiling the demo itself (a minute or more, in silence, where Go's cache is empty)"
	@cd e2e && $(GO) run ./cmd/demo

.PHONY: test
test: root-only test-unit test-e2e ## Run all tests but those on Kubernetes (as root)

.PHONY: test-unit
test-unit: root-only bin/testreport ## Run the unit and kernel tests, with the race detector (as root)
	@cd e2e && $(GO) run ./cmd/setup packages
	@echo "--- unit and kernel tests"
	@$(GO) test -race -json -timeout 15m $(TESTFLAGS) ./... | $(REPORT)

.PHONY: test-e2e
test-e2e: root-only bin/testreport ## Run the suite on a real containerd with real runtimes (as root)
	@echo "--- parts of the test node"
	@cd e2e && $(GO) run ./cmd/setup node && $(GO) run ./cmd/parts build helm containerd17 >/dev/null
	@# One package at a time is run, but all processors may compile.
	@cd e2e && $(GO) test -race -exec true ./... >/dev/null
	@echo "--- suite on containerd"
	@cd e2e && $(GO) test -race -json -count 1 -p 1 -timeout 30m $(TESTFLAGS) $$($(GO) list ./... | grep -vE '/e2e/(kind|chaos)$$') | $(REPORT)
	@$(call core,1.7)

.PHONY: test-versions
test-versions: root-only bin/testreport ## Run the core suite on containerd 1.7, 2.0, 2.2 and 2.3 (as root)
	@$(call core,1.7)
	@$(call core,2.0)
	@$(call core,2.2)
	@$(call core,2.3)

.PHONY: e2e-kind
e2e-kind: $(if $(E2E_KUBECONFIG),,root-only) bin/testreport ## Run the suite on Kubernetes, in a kind cluster of its own (as root), or on E2E_KUBECONFIG's
	@echo "--- suite on Kubernetes"
	@cd e2e && $(GO) test -json -count 1 -v -timeout 40m $(TESTFLAGS) ./kind | $(REPORT) -v

.PHONY: test-chaos
test-chaos: root-only bin/testreport ## Break everything at once, and each repair path (as root; CHAOS=bounded is quick, SEED=N repeats)
	@cd e2e && $(GO) run ./cmd/setup node
	@echo "--- chaos"
	@cd e2e && NEIGHPIN_CHAOS=$(CHAOS) NEIGHPIN_CHAOS_SEED=$(SEED) \
	  $(GO) test -race -json -count 1 -timeout 40m $(TESTFLAGS) ./chaos | $(REPORT)

.PHONY: cover
cover: root-only bin/testreport ## Say what part of each package of pkg and hooks any test of pkg and hooks reaches; fails below 85 % (as root; V=1 names the rest)
	@cd e2e && $(GO) run ./cmd/setup packages
	@$(GO) test -json -count 1 -timeout 10m -coverpkg ./pkg/...,./hooks/... -coverprofile bin/cover.out ./pkg/... ./hooks/... | $(REPORT)
	@$(GO) run ./internal/cmd/coverage -least 85 $(if $(V),-v) bin/cover.out

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (30s)
	@grep -rl --include='*_test.go' '^func Fuzz' pkg hooks plugin internal e2e 2>/dev/null | while read -r file; do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$$file"); do \
	    echo "--- $$target in $$(dirname "$$file")"; \
	    $(GO) test -C "$$(dirname "$$file")" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) .; \
	  done; \
	done

.PHONY: bench
bench: root-only ## Measure against floor and alternatives into bench/results.json (as root; SHORT=1: a look, DOCS=1: docs/performance.md too)
	@cd e2e && $(GO) run ./cmd/bench $(if $(SHORT),-short) -out $(CURDIR)/$(if $(SHORT)$(ONLY),bin/bench.json,bench/results.json) \
	  $(if $(DOCS),-update-docs $(CURDIR)/docs/performance.md) $(if $(ONLY),-only '$(ONLY)') $(if $(PROFILES),-profiles '$(PROFILES)')

.PHONY: bench-go
bench-go: ## Run the benchmarks of Go's own kind
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: lint
lint: ## Run golangci-lint, built from its module, over both modules; check that they are tidy
	@for module in . e2e; do \
	  (cd $$module && $(GO) mod tidy -diff) || { echo "go.mod in $$module is not tidy: run go mod tidy there" >&2; exit 1; }; \
	done
	@cd e2e && lint=$$($(GO) run ./cmd/parts build golangci-lint)/golangci-lint; \
	for module in .. .; do \
	  echo "--- golangci-lint in $$(realpath --relative-to=.. $$module)"; \
	  (cd $$module && "$$lint" run --config $(CURDIR)/.golangci.yaml ./...); \
	done

# govulncheck's exit code is 3 when it has found something, and any other is a search that did not take place.
.PHONY: vuln
vuln: ## Look for known vulnerabilities in what is linked, in Go's database or in VULNDB (such as file:///FOLDER); not part of CI
	@cd e2e && check=$$($(GO) run ./cmd/parts build govulncheck)/govulncheck && cd .. && \
	"$$check" $(if $(VULNDB),-db '$(VULNDB)') ./... || { code=$$?; [ $$code = 3 ] || echo "make vuln: NOTHING WAS CHECKED: see above." \
	  "It needs https://vuln.go.dev, or a copy of that as VULNDB=file:///FOLDER" >&2; exit $$code; }

##@ Housekeeping

.PHONY: reference
reference: ## Write docs/reference.md from the commands
	$(GO) test -run '^TestTheReferenceIsCurrent$$' -count 1 ./plugin -args -update

.PHONY: clean
clean: ## Remove bin/; the cache of built parts stays
	rm -rf bin

.PHONY: root-only
root-only:
	@[ "$$(id -u)" = 0 ] || { echo "this makes network namespaces and runs containers: run make as root" >&2; exit 1; }

bin/testreport: $(wildcard internal/cmd/testreport/*.go)
	@$(GO) build -o $@ ./internal/cmd/testreport
