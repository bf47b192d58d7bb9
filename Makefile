# The everyday commands. `make` alone lists them.

VERSION := $(shell cat VERSION)
COMMIT  := $(shell scripts/source.sh | sed -E 's/^([0-9a-f]{12})[0-9a-f]*/\1/; s/ .*//')
STAMP   := -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# Build tags of libraries for whoever does not use all of them. They leave out what the
# SDK links and no plugin calls: gRPC's request tracing, PostgreSQL's types and YAML for
# tests. 2.2 MB in all.
TAGS    := $(shell cat cmd/vault-plugin-c1/tags)
GOBUILD := $(CURDIR)/scripts/go-build.sh
GOTEST  := go test -race -count=1
# The end-to-end tests run on another server too: SERVER=/path/to/vault-or-bao.
ON      := $(if $(SERVER),C1_E2E_VAULT='$(if $(filter /%,$(firstword $(SERVER))),,$(CURDIR)/)$(SERVER)' )
BENCH   := cd e2e/bench && go test . -run '^$$' -bench . -benchtime 1x -timeout 3h

# Every Go module of the repository, and those that hold code.
MODULES := . e2e e2e/bench e2e/clients e2e/monitoring tools/actionlint tools/dist tools/lint tools/record tools/structure tools/vault tools/vuln
# Those whose dependencies are gigabytes: checked where they are built, by the weekly
# workflow and for each tag.
LARGE   := tools/consul-template tools/etcd tools/external-secrets tools/goreleaser tools/kube-apiserver tools/opentofu
CODE    := . e2e e2e/bench e2e/clients e2e/monitoring tools/dist tools/record tools/structure

.DEFAULT_GOAL := help
.PHONY: help build demo recording dev test unit server e2e e2e-clients fuzz soak bench bench-full scale lint lint-config lint-go lint-structure lint-modules lint-large lint-shell lint-docs lint-workflows \
        dist dist-check release-check vuln fmt structure cover docs clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/vault-plugin-c1 and bin/c1-emulator
	@$(GOBUILD) "$(VERSION) of the plugin and of the emulator" -tags $(TAGS) -ldflags "-s -w $(STAMP)" -o bin/ ./cmd/...

demo: build ## walk through the whole story on an emulated C1 and a real Vault or OpenBao: VAULT_BIN, else from PATH, else built
	scripts/demo.sh

recording: build bin/vault ## draw docs/demo.svg from what the demo prints, with the pinned Vault
	VAULT_BIN=bin/vault scripts/demo.sh >bin/demo.txt
	go run -C tools/record . <bin/demo.txt >bin/demo.svg
	mv bin/demo.svg docs/demo.svg

dev: build ## start what the demo sets up, leave it running and print how to use it
	scripts/demo.sh -dev

test: unit e2e ## run every test, with the race detector

unit: ## run the unit tests, and random histories by the thousand
	$(GOTEST) ./...
	cd e2e/bench && $(GOTEST) ./report
	cd tools/structure && $(GOTEST) .
	cd tools/record && $(GOTEST) .
	cd tools/dist && $(GOTEST) .
	@# The race detector makes a history twenty times dearer.
	go test -count=1 -run '^TestNoHistoryLosesACredential$$' .

server: $(if $(SERVER),,bin/vault)
	@server='$(SERVER)'; if [ -n "$$server" ]; then \
		[ -f "$$server" ] || { echo "SERVER=$$server: there is no such file (a relative path begins at $(CURDIR))" >&2; exit 1; }; \
		[ -x "$$server" ] || { echo "SERVER=$$server: it is not executable" >&2; exit 1; }; fi

e2e: server build ## run the end-to-end tests against the pinned Vault, or SERVER=/path/to/another, Vault or OpenBao
	cd e2e && $(ON)$(GOTEST) -timeout 60m ./...
	@# Without the race detector: here it would watch Prometheus, and nothing of ours.
	cd e2e/monitoring && $(ON)go test -count=1 .

e2e-clients: bin/vault bin/consul-template bin/etcd bin/external-secrets bin/kube-apiserver bin/tofu ## follow rotations with the programs that people really run; writes the table of docs/clients.md
	cd e2e/clients && go test -count=1 -timeout 60m . -args -write ../../docs/clients.md

fuzz: ## look for input that breaks what parses it: FUZZTIME (20s) for each fuzz test
	scripts/fuzz.sh

soak: server build ## kill the leaders of a cluster 200 times under a flaky C1 (about half an hour); takes SERVER too
	cd e2e && C1_E2E_FAILOVERS=$${C1_E2E_FAILOVERS:-200} $(ON)$(GOTEST) -v -timeout 4h \
		-run '^TestAClusterKeepsEveryScheduleWhileItsLeadersDie$$' .

bench: build bin/vault ## measure beside what users would pick instead, in 10 to 15 minutes of an idle machine; writes docs/benchmarks.md
	$(BENCH) -args -write ../../docs/benchmarks.md

bench-full: build bin/vault ## the same with more rounds and up to 100,000 bindings (up to an hour)
	$(BENCH) -args -write ../../docs/benchmarks.md -full

scale: ## play a year of 1,000,000 bindings; writes the tables of docs/scale.md (some minutes)
	go test -run '^$$' -bench '^BenchmarkAYearOfAMillionBindings$$' -benchtime 1x -timeout 1h . -args -scale.write docs/scale.md

lint: lint-config lint-go lint-structure lint-modules lint-shell lint-docs lint-workflows release-check ## check code, scripts, go.mod files, workflows and docs

lint-config: bin/golangci-lint
	bin/golangci-lint config verify
	scripts/lint-proof.sh

lint-go: bin/golangci-lint
	@for m in $(CODE); do (set -ex; cd $$m; go vet ./...; $(CURDIR)/bin/golangci-lint run ./...) || exit 1; done
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
		[ -z "$$unformatted" ] || { echo "not gofmt-clean, run make fmt:"; echo "$$unformatted"; exit 1; }

lint-structure:
	go run -C tools/structure . -most 4 ../.. . ./internal/agenda ./internal/store ./internal/target

lint-modules:
	@for m in $(MODULES); do (set -ex; cd $$m; go mod tidy -diff) || exit 1; done

lint-large:
	@for m in $(LARGE); do (set -ex; cd $$m; go mod tidy -diff) || exit 1; done

lint-shell:
	@for f in $$(git ls-files 'scripts/*.sh' .ci/run); do bash -n $$f || exit 1; done
	@if command -v shellcheck >/dev/null; then shellcheck $$(git ls-files 'scripts/*.sh' .ci/run); \
		else echo "shellcheck is not installed: the scripts had only a syntax check"; fi

lint-docs:
	@go run ./internal/apidoc | diff -u docs/api.md - || { echo "docs/api.md is stale, run make docs"; exit 1; }

lint-workflows: bin/actionlint
	bin/actionlint

dist: ## make everything that a release publishes, in dist/ (see docs/verify.md)
	scripts/dist.sh

dist-check: ## make this commit's release twice, from a checkout and from a source archive, and compare each byte
	scripts/dist-check.sh

release-check: ## check that VERSION, CHANGELOG.md and docs agree; TAG=v1.2.3: that this tag may be released
	scripts/release-check.sh $(TAG)

vuln: bin/govulncheck ## look for known vulnerabilities (needs the public database)
	scripts/vuln.sh

fmt: bin/golangci-lint ## format the Go code
	@for m in $(CODE); do (set -ex; cd $$m; $(CURDIR)/bin/golangci-lint fmt ./...) || exit 1; done

structure: ## say how the code hangs together: files, lines, dependencies that point upwards
	@go run -C tools/structure . -edges ../..

cover: ## measure test coverage; fails below 85 %
	scripts/cover.sh 85 . ./internal/c1api

docs: ## write docs/api.md from the engine's own path definitions
	@mkdir -p bin
	go run ./internal/apidoc > bin/api.md
	mv bin/api.md docs/api.md

clean: ## remove what was built, except the pinned Vault server
	rm -rf dist bin/goreleaser-dist bin/vault-plugin-c1 bin/c1-emulator bin/actionlint bin/dist bin/golangci-lint bin/goreleaser bin/govulncheck coverage*

# Other flags would compile all of Vault once more. The touch: go leaves an
# unchanged binary's time alone, and make would build it again and again.
bin/vault: tools/vault/go.mod
	@cd tools/vault && $(GOBUILD) "the pinned Vault: 5 to 10 minutes the first time (about 1,900 packages)" \
		-tags minimal -ldflags "-s -w" -o ../../$@ github.com/hashicorp/vault
	@touch $@

bin/tofu: tools/opentofu/go.mod
	@cd tools/opentofu && $(GOBUILD) "OpenTofu: 3 to 5 minutes the first time" \
		-ldflags "-s -w -X github.com/opentofu/opentofu/version.dev=no" -o ../../$@ github.com/opentofu/opentofu/cmd/tofu
	@touch $@

bin/etcd: tools/etcd/go.mod
	@cd tools/etcd && $(GOBUILD) "etcd: a minute the first time" -ldflags "-s -w" -o ../../$@ go.etcd.io/etcd/server/v3
	@touch $@

bin/kube-apiserver: tools/kube-apiserver/go.mod
	@cd tools/kube-apiserver && $(GOBUILD) "kube-apiserver: 5 to 8 minutes the first time (about 1,600 packages)" \
		-ldflags "-s -w" -o ../../$@ k8s.io/kubernetes/cmd/kube-apiserver
	@touch $@

bin/external-secrets: tools/external-secrets/go.mod
	@cd tools/external-secrets && $(GOBUILD) "External Secrets Operator: 10 to 15 minutes the first time (about 2,000 packages)" \
		-ldflags "-s -w" -o ../../$@ github.com/external-secrets/external-secrets
	@touch $@

bin/golangci-lint: tools/lint/go.mod
	@cd tools/lint && $(GOBUILD) "golangci-lint: 2 minutes the first time" \
		-o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

bin/consul-template: tools/consul-template/go.mod
	@cd tools/consul-template && $(GOBUILD) "consul-template: a minute the first time" \
		-ldflags "-s -w" -o ../../$@ github.com/hashicorp/consul-template
	@touch $@

bin/actionlint: tools/actionlint/go.mod
	@cd tools/actionlint && $(GOBUILD) "actionlint" -o ../../$@ github.com/rhysd/actionlint/cmd/actionlint
	@touch $@

bin/govulncheck: tools/vuln/go.mod
	@cd tools/vuln && $(GOBUILD) "govulncheck" -o ../../$@ golang.org/x/vuln/cmd/govulncheck
	@touch $@
