# app-offload: everything is a target here; `make help` lists them.

SHELL      := /bin/bash
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0)
COMMIT     ?= $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)
# The SDK's own SDKVersion stays unset on purpose: setting it makes core-metadata mandatory at start.
LDFLAGS    := -s -w -X github.com/edgexfoundry/app-functions-sdk-go/v3/internal.ApplicationVersion=$(VERSION) -X app-offload/functions/version.number=$(VERSION) -X app-offload/functions/version.commit=$(COMMIT)

# SMALL=1, for the lite image: code that is not on the way of the data is not inlined, and functions stand closer together.
ifdef SMALL
LDFLAGS += -funcalign=16
GCFLAGS := $(foreach cold,net/http golang.org/x/net golang.org/x/text google.golang.org/grpc github.com/cloudevents github.com/gabriel-vasile github.com/go-jose \
	github.com/go-playground github.com/hashicorp github.com/labstack github.com/spiffe,-gcflags=$(cold)/...=-l)
endif
COMMANDS   := app-offload offload-cloud offload-lab offloadctl

# EdgeX's SDK speaks to a MessageBus on NATS with: make build TAGS=include_nats_messaging
# Models are computed by ONNX Runtime with: make build TAGS=onnxruntime, which needs a C compiler; .ci/onnxruntime/fetch prints where its library is.
TAGS     ?=
DURATION ?= 0s
RATE     ?= 1
SEED     ?= 1
ROUNDS   ?= 50
FUZZTIME ?= 60s
N        ?= 100
# What a soak draws from: mostly kills, and now and then everything else.
SOAK     ?= kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-edge,kill-cloud,kill-cloud,kill-both,term-edge,cut,slow,stall,reset,puback,receipt,broker,bus,$(NEIGHBOURS)
# What is wrong beside the link: clocks, identities, neighbours, sizes.
NEIGHBOURS := late,clock,second,acl,oversized,same-id,restored,closing
# Add hung to have the consumer's database in PostgreSQL, and a consumer stopped within a transaction.

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
	go test -run TestEveryTaskArrivesOnceAndInOrder ./functions # in full, 200,000 tasks, without the detector
	go test -run TestLearnerMastersCartPole ./cmd/offload-lab # minutes with it
	go test -run TestTheLargestMessagesFitTheDocumentedMemory ./cmd/app-offload # the detector's own memory is many times that

.PHONY: check
check: ## Run the fast tests: without the race detector, long tests, daemons and the whole system
	go test -short $$(go list ./... | grep -vE '$(SLOW)')

# The packages that take more than a few seconds, each for its daemons, kills or whole systems; make test runs them.
SLOW := /functions$$|/functions/(edgex|spool|export|badlink)$$|/cmd/app-offload|/cmd/offload-cloud$$|/internal/(store|faults|stack|bench|rl|sim|report|twin)$$

.PHONY: words
words: ## List the banned turns of language that are left, with the better word
	@.ci/words -list

.PHONY: e2e
e2e: build ## Run in the real EdgeX stack: Consul, Redis, mosquitto, device services (builds Consul once, 8 minutes)
	.ci/e2e/run

.PHONY: kubeedge
kubeedge: ## Hold the KubeEdge manifests against the published types
	cd res/kubeedge/check && go vet ./... && go test ./...

.PHONY: cross
cross: ## Compile for arm64 and 32-bit arm; vet and test the rooms on 386, which an amd64 runs
	GOARCH=arm64 CGO_ENABLED=0 go build -o /dev/null ./...
	GOARCH=arm GOARM=7 CGO_ENABLED=0 go build -o /dev/null ./...
	GOARCH=386 CGO_ENABLED=0 go vet ./...
	GOARCH=386 CGO_ENABLED=0 go test -short $$(go list ./functions/... | grep -v '/functions$$') # the root is slow, and its parts are these

.PHONY: onnxruntime
onnxruntime: ## Test the engine with ONNX Runtime against the one in Go; fetches the library (needs npm and a C compiler; ARCH=arm64 under qemu)
	.ci/onnxruntime/test $(ARCH)

.PHONY: lint
lint: ## Run go vet, staticcheck, gosec and the formatter
	.ci/lint

.PHONY: size
size: ## Print how large the code is by package, and the change against the recorded table (RECORD=1 records it)
ifdef RECORD
	go run ./.ci/size >.ci/size/table && mv .ci/size/table .ci/size/recorded.md
else
	@go run ./.ci/size -against .ci/size/recorded.md
endif

.PHONY: fuzz
fuzz: ## Run every fuzz target (FUZZTIME=60s each)
	.ci/fuzz $(FUZZTIME)

.PHONY: mutants
mutants: ## Draw one-line mutations and see whether the tests kill them (SEED=1 N=100 PACKAGES=./functions/...)
	go run ./.ci/mutants -seed $(SEED) -n $(N) -results mutants-$(SEED).jsonl $(PACKAGES)

.PHONY: faults
faults: build ## Break the whole system over and over, and check that nothing is lost or doubled (ROUNDS=50 SEED=1)
	@bin/offload-lab faults -bin bin -rounds $(ROUNDS) -seed $(SEED)

.PHONY: faults-quick
faults-quick: build ## Faults in rounds of a second or two, until at least 50 processes were killed (SEED=1)
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
soak: build ## Faults until app-offload was killed 1,000 times and offload-cloud 200 times, about 25 minutes (SEED=1)
	@bin/offload-lab faults -quick -bin bin -rounds 0 -edge-kills 1000 -cloud-kills 200 -seed $(SEED) -kind $(SOAK)

.PHONY: scenario
scenario: build ## Play a situation that lasts, and hold it to its bounds (SCENARIO=hung|dead|slow|backlog|gone|full-disk|read-only)
	@bin/offload-lab faults -bin bin -scenario $(or $(SCENARIO),hung) -seed $(SEED)

.PHONY: bench
bench: build ## Measure decisions, parsing, spool and the whole service beside its floor
	.ci/bench

.PHONY: bench-hold
bench-hold: build ## Hold the service's CPU to that of a bare subscriber, by the ratios recorded in .ci/bench-ratios (a minute)
	.ci/bench-hold

.PHONY: first-look
first-look: ## Time a clone of what is committed until the page has figures, and the page's first paint (CACHE=warm|modules|none)
	@.ci/first-look
	@if [ -x /usr/bin/chromium ]; then go test -run '^$$' -bench Page -benchtime 20x ./cmd/app-offload | grep -E '^Bench|FAIL'; \
	else echo "chromium is not installed: the first paint was not measured"; fi

.PHONY: docs
docs: ## Regenerate the configuration file and the references in the docs
	go test ./functions/config ./functions/local ./functions/policy ./cmd/app-offload ./cmd/offloadctl/ctl -run 'TestShipped.*Generated|TestDocumented' -update

.PHONY: docs-run
docs-run: build ## Run the commands of the docs that need no running stack
	.ci/docs-run

.PHONY: docker
docker: ## Build the image
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t app-offload:$(VERSION) .

.PHONY: docker-test
docker-test: ## Start a Docker engine of its own (as root), build both images and run the compose files
	.ci/docker/test

.PHONY: sbom
sbom: build ## Write what the programs are made of and under which licences, and fail on one that does not go with ours
	.ci/sbom/run

.PHONY: clean
clean: ## Remove what was built or run
	rm -rf bin run
