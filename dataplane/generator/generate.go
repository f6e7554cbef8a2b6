package generator

// As in package dataplane.

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel object ../../bpf/generator.c -- -mcpu=v3 -I../../headers -Wall -Wextra -Werror -Wno-unused-parameter
