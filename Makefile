# app-offload: `make help` lists the targets.

SHELL      := /bin/bash
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0)
COMMIT     ?= $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)
# The SDK's own SDKVersion stays unset on purpose: setting it makes core-metadata mandatory at start.
LDFLAGS    := -s -w -X github.com/edgexfoundry/app-functions-sdk-go/v3/internal.ApplicationVersion=$(VERSION) -X app-offload/functions/version.number=$(VERSION) -X app-offload/functions/version.commit=$(COMMIT)

# SMALL=1, for the lite image: code off the data path is not inlined, and functions are aligned more tightly.
ifdef SMALL
LDFLAGS += -funcalign=16
GCFLAGS := $(foreach cold,net/http golang.org/x/net golang.org/x/text google.golang.org/grpc github.com/cloudevents github.com/gabriel-vasile github.com/go-jose \
	github.com/go-playground github.com/hashicorp github.com/labstack github.com/spiffe,-gcflags=$(cold)/...=-l)
endif
COMMANDS   := app-offload offload-cloud offload-lab offloadctl

# For a MessageBus on NATS: make build TAGS=include_nats_messaging
# For ONNX Runtime: make build TAGS=onnxruntime, which needs a C compiler; .ci/onnxruntime/fetch prints the path of the library.
TAGS     ?=
DURATION ?= 0s
RATE     ?= 1
SEED     ?= 1
ROUNDS   ?= 50
FUZZTIME ?= 60s
N        ?= 100
# The faults of a soak: mostly kills, and occasionally every other kind.
SOAK     ?= kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-cloud,kill-cloud,kill-both,term-edge,cut,slow,stall,reset,puback,receipt,broker,bus,$(NEIGHBOURS)
# Faults other than those of the link: clocks, identities, neighbours, sizes.
NEIGHBOURS := late,clock,second,acl,oversized,same-id,restored,closing
# Add hung for a consumer's database in PostgreSQL and a consumer stopped within a transaction.

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the commands into bin/
	@mkdir -p bin
	CGO_ENABLED=$(if $(findstring onnxruntime,$(TAGS)),1,0) go build -trimpath -tags "$(TAGS)" -ldflags "$(LDFLAGS)" $(GCFLAGS) -o bin/ $(COMMANDS:%=./cmd/%)

.PHONY: run
run: build ## Run the whole system on this machine (DURATION=20s RATE=1 SEED=1)
	@bin/offload-lab run -bin bin -duration $(DURATION) -rate $(RATE) -seed $(SEED)

.PHONY: test
test: ## Run the unit, integration and scenario tests with the race detector
	go test -race $(TESTFLAGS) ./...
	go test -run TestEveryTaskArrivesOnceAndInOrder ./functions # all 200,000 tasks, without the detector
	go test -run TestLearnerMastersCartPole ./cmd/offload-lab # takes minutes with the detector
	go test -run TestTheLargestMessagesFitTheDocumentedMemory ./cmd/app-offload # the detector's own memory exceeds the limit many times

.PHONY: check
check: ## Run the fast tests: without the race detector, long tests, daemons and the whole system
	go test -short $$(go list ./... | grep -vE '$(SLOW)')

# Packages that take more than a few seconds because of daemons, kills or whole systems; make test runs them.
SLOW := /functions$$|/functions/(edgex|spool|export|badlink)$$|/cmd/app-offload|/cmd/offload-cloud$$|/internal/(store|faults|stack|bench|rl|sim|report|twin)$$

.PHONY: words
words: ## List the remaining banned phrases with the better word
	@.ci/words -list

.PHONY: e2e
e2e: build ## Run the real EdgeX stack: Consul, Redis, mosquitto, device services (builds Consul once, 8 minutes)
	.ci/e2e/run

.PHONY: kubeedge
kubeedge: ## Check the KubeEdge manifests against the published types
	cd res/kubeedge/check && go vet ./... && go test ./...

.PHONY: cross
cross: ## Compile for arm64 and 32-bit arm; vet and test functions/ on 386, which an amd64 can run
	GOARCH=arm64 CGO_ENABLED=0 go build -o /dev/null ./...
	GOARCH=arm GOARM=7 CGO_ENABLED=0 go build -o /dev/null ./...
	GOARCH=386 CGO_ENABLED=0 go vet ./...
	GOARCH=386 CGO_ENABLED=0 go test -short $$(go list ./functions/... | grep -v '/functions$$') # the root package is slow, and consists of these

.PHONY: onnxruntime
onnxruntime: ## Test the ONNX Runtime engine against the Go engine; fetches the library (needs npm and a C compiler; ARCH=arm64 under qemu)
	.ci/onnxruntime/test $(ARCH)

.PHONY: lint
lint: ## Run go vet, staticcheck, gosec and the formatter
	.ci/lint

.PHONY: size
size: ## Print the code size by package, and the change from the recorded table (RECORD=1 records it)
ifdef RECORD
	go run ./.ci/size >.ci/size/table && mv .ci/size/table .ci/size/recorded.md
else
	@go run ./.ci/size -against .ci/size/recorded.md
endif

.PHONY: fuzz
fuzz: ## Run every fuzz target (FUZZTIME=60s each)
	.ci/fuzz $(FUZZTIME)

.PHONY: mutants
mutants: ## Apply random one-line mutations and check whether the tests kill them (SEED=1 N=100 PACKAGES=./functions/...)
	go run ./.ci/mutants -seed $(SEED) -n $(N) -results mutants-$(SEED).jsonl $(PACKAGES)

.PHONY: faults
faults: build ## Break the whole system repeatedly, and check that nothing is lost or duplicated (ROUNDS=50 SEED=1)
	@bin/offload-lab faults -bin bin -rounds $(ROUNDS) -seed $(SEED)

.PHONY: faults-quick
faults-quick: build ## Faults in rounds of a second or two, until at least 50 processes have been killed (SEED=1)
	@bin/offload-lab faults -quick -bin bin -rounds 60 -kill-rounds 50 -seed $(SEED)
	@bin/offload-lab faults -quick -bin bin -rounds 6 -seed $(SEED) -kind hung,hung,kill-cloud,kill-both # on PostgreSQL
	@bin/offload-lab faults -quick -bin bin -rounds 8 -check 4 -rate 60 -seed $(SEED) -kind kill-work # with workers in the cloud: on PostgreSQL with an odd seed

.PHONY: powercuts
powercuts: ## Cut the power of a model disk 10,000 times (POWER_CUTS=10000)
	POWER_CUTS=$(or $(POWER_CUTS),10000) SPOOL_MILLION=1 go test -count=1 ./functions/spool

.PHONY: clusterkills
clusterkills: ## Kill consumers, workers and the servers of a NATS cluster, on SQLite and PostgreSQL; prints the seeds (NATS_KILL_ROUNDS=1 KILL_ROUNDS=5)
	NATS_KILL_ROUNDS=$(or $(NATS_KILL_ROUNDS),1) KILL_ROUNDS=$(or $(KILL_ROUNDS),5) go test -count=1 -v -run 'TestKillingNATSServers|TestKilledWorkers' ./cmd/offload-cloud

.PHONY: soak
soak: build ## Faults until app-offload has been killed 1,000 times and offload-cloud 200 times, about 25 minutes (SEED=1)
	@bin/offload-lab faults -quick -bin bin -rounds 0 -edge-kills 1000 -cloud-kills 200 -seed $(SEED) -kind $(SOAK)

.PHONY: scenario
scenario: build ## Run a lasting fault, and check its bounds (SCENARIO=hung|dead|slow|backlog|gone|full-disk|read-only)
	@bin/offload-lab faults -bin bin -scenario $(or $(SCENARIO),hung) -seed $(SEED)

.PHONY: bench
bench: build ## Measure decisions, parsing, spool and the whole service against its floor
	.ci/bench

.PHONY: bench-hold
bench-hold: build ## Check the service's CPU relative to a bare subscriber against the ratios in .ci/bench-ratios (a minute)
	.ci/bench-hold

.PHONY: first-look
first-look: ## Measure the time from a clone to figures on the page, and the page's first paint (CACHE=warm|modules|none)
	@.ci/first-look
	@if [ -x /usr/bin/chromium ]; then go test -run '^$$' -bench Page -benchtime 20x ./cmd/app-offload | grep -E '^Bench|FAIL'; \
	else echo "chromium is not installed: the first paint was not measured"; fi

.PHONY: docs
docs: ## Regenerate the configuration file and the references in the docs
	go test ./functions/config ./functions/local ./functions/policy ./cmd/app-offload ./cmd/offloadctl/ctl -run 'TestShipped.*Generated|TestDocumented' -update

.PHONY: docs-run
docs-run: build ## Run the commands in the docs that need no running stack
	.ci/docs-run

.PHONY: docker
docker: ## Build the image
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t app-offload:$(VERSION) .

.PHONY: docker-test
docker-test: ## Start a separate Docker engine (as root), build both images and run the compose files
	.ci/docker/test

.PHONY: sbom
sbom: build ## Write the bill of materials with licences, and fail on an incompatible licence
	.ci/sbom/run

.PHONY: clean
clean: ## Remove build and run output
	rm -rf bin run
