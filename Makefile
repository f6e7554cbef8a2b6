# `make demo` shows Sluice at work, `make test` runs every check. Both install what they miss, with apt, when
# they run as root on Debian or Ubuntu.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$(PATH)")

# The compiler is pinned: another version generates other objects. Also named in dataplane/generate.go.
LLVM       := 19
VM_DEPS    := qemu-system-x86 busybox-static kmod xz-utils xdp-tools ipvsadm
KERNELS    := cloud
HTTP_DEPS  := nftables haproxy
TEST_DEPS  := gcc libc6-dev iproute2 ethtool procps libbpf-dev clang-$(LLVM) clang-format-$(LLVM) llvm-$(LLVM) \
              shellcheck vagrant redis-server protobuf-compiler
C_SOURCES  := $(wildcard bpf/*.[ch] headers/*.h)
SCRIPTS    := .ci/run $(wildcard test/*/*.sh) brain/scale/keda/externalscaler/generate.sh

export BPF2GO_CFLAGS := -I/usr/include/$(shell uname -m)-linux-gnu

.PHONY: build pktgen demo test test-vm bench-vm fuzz soak lint generate check-generated bench bench-http deps vm-deps http-deps clean

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o sluice ./cmd/sluice

# Drives the kernel's packet generator, see docs/benchmarks.md.
pktgen:
	CGO_ENABLED=0 go build -trimpath -o pktgen ./test/pktgen

demo: build
	$(SUDO) ./sluice demo

test: deps lint check-generated build
	$(SUDO) go tool gotestsum --format pkgname-and-test-fails -- -race -count=1 -timeout 15m ./...

# The same objects under Debian's own kernels, in virtual machines, and with the tunnel devices of those.
test-vm: build vm-deps
	@job=$$(mktemp -d) && trap 'rm -rf "$$job"' EXIT && cp sluice "$$job" && \
	while read -r folder arguments; do \
		mkdir -p "$$job/$$folder" && CGO_ENABLED=0 go test -c -tags vm -o "$$job/$$folder/run.test" "./$$folder" && \
		{ [ ! -d "$$folder/testdata" ] || cp -r "$$folder/testdata" "$$job/$$folder"; } && \
		echo "$$folder run.test $$arguments" >> "$$job/tests" || exit 1; \
	done < test/vm/tests && \
	for kernel in $(KERNELS); do test/vm/run.sh "$$kernel" "$$job" || exit 1; done

# Sluice beside the kernel's IPVS under the load of its packet generator, in a virtual machine. BENCH=--help has options.
bench-vm: build vm-deps
	@job=$$(mktemp -d) && trap 'rm -rf "$$job"' EXIT && cp sluice "$$job" && \
	CGO_ENABLED=0 go build -o "$$job" ./test/vm/bench ./test/pktgen && echo './bench $(BENCH)' > "$$job/command" && \
	for kernel in $(KERNELS); do test/vm/run.sh "$$kernel" "$$job" || exit 1; done

# Ten million executions take half an hour.
fuzz:
	$(SUDO) go test ./dataplane -run '^$$' -fuzz FuzzBalancer -fuzztime 10000000x -fuzzminimizetime 10x -timeout 0

# What `make test` does for 20 seconds.
soak:
	$(SUDO) go test ./test/failover -run TestChurn -count=1 -v -churn 10m -timeout 0

lint: deps
	@unformatted=$$(gofmt -l bpf brain cache cmd control dataplane test); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	clang-format-$(LLVM) --dry-run --Werror $(C_SOURCES)
	shellcheck $(SCRIPTS)
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	VAGRANT_CHECKPOINT_DISABLE=1 VAGRANT_HOME="$$home" VAGRANT_DOTFILE_PATH="$$home" vagrant validate --ignore-provider

# The C compiler runs here with -Wall -Wextra -Werror, see dataplane/generate.go.
generate: deps
	go generate ./...

check-generated: deps
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && \
	mkdir -p "$$copy/brain/scale" && cp -r go.mod go.sum bpf headers dataplane "$$copy" && cp -r brain/scale/keda "$$copy/brain/scale" && \
	(cd "$$copy" && go generate ./dataplane/... ./brain/scale/keda/...) && \
	for file in $$(find dataplane brain -name '*_bpfel.*' -o -name '*.pb.go'); do \
		cmp "$$file" "$$copy/$$file" || { echo "$$file is stale: run make generate and commit"; exit 1; }; \
	done && echo "generated files are up to date"

bench:
	go test -run '^$$' -bench . -benchmem ./...

# New connections, requests and bulk through Sluice and through others; about eight minutes.
bench-http: build http-deps
	$(SUDO) ./sluice bench http

vm-deps: PACKAGES := $(VM_DEPS)
http-deps: PACKAGES := $(HTTP_DEPS)
deps: PACKAGES := $(TEST_DEPS)
deps vm-deps http-deps:
	@missing=$$(for package in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		echo "installing with apt:" $$missing; \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	fi

clean:
	rm -f sluice pktgen
