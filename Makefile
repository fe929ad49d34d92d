SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)
FUZZTIME ?= 60s
PROGRAM  ?= metergate

# git refuses to read a clone that belongs to another user, and go build would fail with it.
export GOFLAGS := -buildvcs=false $(GOFLAGS)

.PHONY: help build dist release root test chaos long soak lint format vet bench growth fuzz screenshots clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

build: ## build ./metergate, static
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X metergate/proxy/browser.version=$(VERSION)' -o $(PROGRAM) ./cmd/metergate

RELEASE = env -u GOOS -u GOARCH -u CGO_ENABLED go run -C .ci/release -trimpath .

dist: ## build the archive of a release in dist/, of what is here: the program and what its operators need
	$(RELEASE) -trial -archives -version '$(VERSION)' -commit '$(COMMIT)' -platforms "$$(go env GOOS)/$$(go env GOARCH)"

# TRIAL=1 builds a commit without a tag, and files that are not committed.
release: ## build a release of the tagged commit in dist/; docs/release.md explains it
	$(RELEASE) $(if $(TRIAL),-trial) $(if $(PLATFORMS),-platforms '$(PLATFORMS)') $(if $(filter command line,$(origin VERSION)),-version '$(VERSION)')

# The Dockerfile and make release put these files into the image. The shipped gateway.yaml keeps its
# data in ./data, relative to itself. In the image that is a link to the volume.
root:
	@[ -n "$(ROOT)" ] || { echo "say where: make root ROOT=FOLDER" >&2; exit 1; }
	$(MAKE) build PROGRAM=$(ROOT)/metergate
	install -d $(ROOT)/etc $(ROOT)/doc $(ROOT)/data
	install -m 644 gateway.yaml $(ROOT)/etc/
	ln -s /var/lib/metergate $(ROOT)/etc/data
	install -m 644 LICENSE THIRD_PARTY_NOTICES $(ROOT)/doc/

# With METERGATE_TEST_REQUIRE a test fails, instead of being skipped, when a program that
# it needs is not installed. gotest fails on any other skip. Many tests wait more than they compute, so three
# packages at a time keep two cores busy. The packages that take longest come first, so that none of them runs alone at the end.
LONGEST := ./quota/redisstore ./cmd/metergate/e2e/browsers ./cmd/metergate/e2e/counting ./cmd/metergate ./proxy ./proxy/browser ./quota/guard

test: ## install what the tests need and run all of them, with the race detector
	@.ci/install
	@$(MAKE) --no-print-directory format vet
	METERGATE_TEST_REQUIRE=1 go run ./.ci/gotest -race -p 3 -timeout 12m $(LONGEST) ./... ./.ci/gotest

# The flags of a package's tests, such as -chaos, must follow the name of the package.
chaos: ## ten minutes of faults on two gateways and a Redis
	@.ci/install
	METERGATE_TEST_REQUIRE=1 go test ./cmd/metergate/e2e/counting -race -v -run '^TestChaos$$' -timeout 25m -chaos 10m

long: ## run what takes too long for make test: 100 kills, 1000 reloads, 48 hours of bills, 200,000 steps on the model, Next.js with webpack
	@.ci/install
	METERGATE_TEST_REQUIRE=1 go test ./cmd/metergate/e2e/counting ./cmd/metergate/e2e/reloading -race -v -run 'TestKill|TestUpstreamSwap|TestBrokenFiles|TestTargetDies' -timeout 30m -long
	METERGATE_TEST_REQUIRE=1 go test ./cmd/metergate/e2e/browsers -race -v -run '^TestReactApp$$' -timeout 30m -long
	METERGATE_TEST_REQUIRE=1 go test ./cmd/metergate/e2e/console -race -v -run '^TestFirstUsers|^TestFirefox' -timeout 30m -long
	METERGATE_TEST_REQUIRE=1 go test ./cmd/metergate/e2e/notifications -race -v -run '^TestChaos' -timeout 30m -long
	METERGATE_TEST_REQUIRE=1 go test ./cmd/metergate/e2e/releasing -race -v -timeout 30m -long
	METERGATE_TEST_REQUIRE=1 go test ./cmd/metergate/e2e/upgrading -race -v -run '^TestUpgrade' -timeout 30m -long
	METERGATE_TEST_REQUIRE=1 go test ./cmd/metergate/e2e/billing -race -v -timeout 30m -long
	METERGATE_TEST_REQUIRE=1 go test ./quota/boltstore ./quota/redisstore -race -run '^TestSuite' -timeout 30m -rapid.checks 2000

# Without the race detector, which needs memory itself.
soak: ## ten minutes of traffic of all kinds on one gateway, whose memory must not grow
	@.ci/install
	METERGATE_TEST_REQUIRE=1 go test ./cmd/metergate/bench -v -count 1 -run '^TestSoak$$' -timeout 25m -soak 10m

lint: format vet ## check format, vet, go.mod
	go mod tidy -diff

# For the go tool, ./... does not include folders that begin with a dot.
format:
	@files=$$(gofmt -l $$(find . \( -path ./.tools -o -name node_modules \) -prune -o -name '*.go' -print)); \
	if [ -n "$$files" ]; then echo "gofmt these:"; echo "$$files"; exit 1; fi

vet:
	go vet ./... ./.ci/gotest
	go vet -C .ci/kubernetes .
	go vet -C .ci/release .

# BENCH passes flags to the benchmarks of whole processes, such as "-rounds 3".
# Other proxies are measured if they are installed; docs/performance.md says how.
bench: ## compare the gateway with other proxies, and measure each part of it
	go test ./proxy/... ./quota/... -run '^$$' -bench . -benchmem -timeout 20m
	go test ./cmd/metergate/bench -run '^$$' -bench . -skip '^BenchmarkGrowth$$|^BenchmarkGenerator$$' -benchtime 1x -timeout 20m $(BENCH)
	go test ./cmd/metergate/e2e/browsers -run '^$$' -bench . -benchtime 1x -timeout 20m

growth: ## measure what grows with connections, users, limits and routes
	go test ./cmd/metergate/bench -run '^$$' -bench '^BenchmarkGrowth$$' -benchtime 1x -timeout 30m $(BENCH)

fuzz: ## run each fuzz target for FUZZTIME=60s
	@grep -rEo --include='*_test.go' --exclude-dir=.tools '^func Fuzz[A-Za-z0-9_]*' . | \
	while IFS=: read -r file func; do \
		echo "$$(dirname "$$file") $${func#func }"; \
		go test "$$(dirname "$$file")" -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) </dev/null; \
	done

# The page uses the font Inter. If it is not installed, the pictures show another font.
screenshots: ## make the pictures of the demo and of its console in docs/
	go test ./cmd/metergate/e2e/browsers -count 1 -run '^TestDemoScreenshots$$' -screenshots "$(CURDIR)/docs"
	go test ./cmd/metergate/e2e/console -count 1 -run '^TestConsoleScreenshots$$' -screenshots "$(CURDIR)/docs"

clean: ## remove what was built
	rm -rf metergate dist
