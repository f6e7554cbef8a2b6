package dataplane

// The compiler's version is pinned, so that everybody generates the same objects; BPF2GO_CFLAGS brings
// the include paths of the machine (see the Makefile).

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -type mode -type reason -type backend_flags -type cause -type hash_kind -type service_flags -type flow -type flow_state -type verdict -type event -type signal -type signal_kind balancer ../bpf/balancer.c -- -mcpu=v3 -I../headers -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel decap ../bpf/decap.c -- -mcpu=v3 -I../headers -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -no-global-types probe ../bpf/probe.c -- -mcpu=v3 -I../headers -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers
