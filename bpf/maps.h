/* The maps of the balancer. User space sets the sizes of most before it loads
 * them; the ones here are the smallest that load.
 */
#pragma once

#include <linux/bpf.h>

#include "protocol.h"
#include "sluice.h"

#define MAP(name_, type_, key_, value_, flags_)                                        \
	struct {                                                                       \
		__uint(type, type_);                                                   \
		__uint(max_entries, 1);                                                \
		__uint(map_flags, flags_);                                             \
		__type(key, key_);                                                     \
		__type(value, value_);                                                 \
	} name_ SEC(".maps")

/* (address, port, protocol) -> index in services */
MAP(services4, BPF_MAP_TYPE_HASH, struct service_key4, __u32, 0);
MAP(services6, BPF_MAP_TYPE_HASH, struct service_key6, __u32, 0);

MAP(services, BPF_MAP_TYPE_ARRAY, __u32, struct service, BPF_F_MMAPABLE);
MAP(slots, BPF_MAP_TYPE_ARRAY, __u32, __u64, BPF_F_MMAPABLE);
MAP(backends, BPF_MAP_TYPE_ARRAY, __u32, struct backend, BPF_F_MMAPABLE);
MAP(olders, BPF_MAP_TYPE_ARRAY, __u32, struct older, BPF_F_MMAPABLE); /* as services */
MAP(loads, BPF_MAP_TYPE_ARRAY, __u32, struct load, BPF_F_MMAPABLE);   /* as backends */
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct counters, 0);

MAP(flows4, BPF_MAP_TYPE_LRU_HASH, struct tuple4, struct flow4, 0);
MAP(flows6, BPF_MAP_TYPE_LRU_HASH, struct tuple6, struct flow6, 0);
MAP(replies4, BPF_MAP_TYPE_LRU_HASH, struct tuple4, struct reply4, 0);
MAP(replies6, BPF_MAP_TYPE_LRU_HASH, struct tuple6, struct reply6, 0);

/* the ports of a fragmented packet, of those that went to a backend or client */
MAP(fragments4, BPF_MAP_TYPE_LRU_HASH, struct fragment_key4, struct ports, 0);
MAP(fragments6, BPF_MAP_TYPE_LRU_HASH, struct fragment_key6, struct ports, 0);

/* (service, source prefix) -> SOURCE_DENIED or a set of backends */
MAP(sources4, BPF_MAP_TYPE_LPM_TRIE, struct source_key4, __u32, BPF_F_NO_PREALLOC);
MAP(sources6, BPF_MAP_TYPE_LPM_TRIE, struct source_key6, __u32, BPF_F_NO_PREALLOC);

/* (service, server ID) -> backend */
MAP(servers, BPF_MAP_TYPE_HASH, struct server_key, struct server, BPF_F_NO_PREALLOC);

/* (service, source prefix) -> when its next new flow is due, ns */
MAP(buckets, BPF_MAP_TYPE_LRU_HASH, struct bucket_key, __u64, 0);

MAP(reasons, BPF_MAP_TYPE_PERCPU_ARRAY, enum reason, __u64, 0);

/* ifindex -> ifindex: the interfaces that packets may leave by */
MAP(devices, BPF_MAP_TYPE_DEVMAP_HASH, __u32, __u32, 0);

/* Set when the program is loaded. */
const volatile __u8 rehearses = 0; /* what it writes counts for nothing */
const volatile __u16 nat_port_first = 1024;
const volatile __u16 nat_port_last = 32767;
const volatile __u64 hash_keys[11] = {};
