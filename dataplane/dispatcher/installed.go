package dispatcher

import (
	"cmp"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// installed is the version of the protocol that this host's libxdp speaks. It does not touch dispatchers of
// other versions, so that a first one here is of that version. Without a libxdp it is the oldest.
func installed() uint8 {
	const object = "xdp-dispatcher.o"
	for _, pattern := range []string{
		filepath.Join(cmp.Or(os.Getenv("LIBXDP_OBJECT_PATH"), "/usr/lib/bpf"), object),
		"/usr/lib/*/bpf/" + object, "/usr/lib64/bpf/" + object, "/usr/local/lib*/bpf/" + object,
	} {
		paths, _ := filepath.Glob(pattern) // fails for a malformed pattern only
		for _, path := range paths {
			if version := versionOf(path); version > oldest {
				return min(version, newest)
			}
		}
	}
	return oldest
}

// versionOf reads what a dispatcher's object says of itself, as libxdp does: a type of so many elements.
// 0 means nothing.
func versionOf(path string) uint8 {
	spec, err := ebpf.LoadCollectionSpec(path)
	if err != nil {
		return 0
	}
	var v *btf.Var
	if spec.Types.TypeByName("dispatcher_version", &v) != nil {
		return 0
	}
	if pointer, ok := btf.UnderlyingType(v.Type).(*btf.Pointer); ok {
		if array, ok := btf.UnderlyingType(pointer.Target).(*btf.Array); ok {
			return uint8(array.Nelems)
		}
	}
	return 0
}
