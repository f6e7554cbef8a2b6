/* The power of two choices (Mitzenmacher, "The Power of Two Choices in Randomized Load
 * Balancing", IEEE TPDS 12(10), 2001): a new flow has two slots, and the backend with
 * less load of the two takes it. The load is the flows in progress, counted here as
 * they open and close, relative to the weight; dataplane/loads.go says how what was
 * never seen to close is forgotten.
 */
#pragma once

#include "clock.h"
#include "hash.h"
#include "parse.h"
#include "slot.h"

/* What a flow did not long ago, so that a SYN or FIN that is sent again is not counted
 * again: a cache with one place for each hash's upper bits. A flow that takes the place
 * of another at the wrong moment costs an error of one.
 */
#define RECENT_BITS 16

enum recent {
	RECENT_OPENED = 1,
	RECENT_CLOSED,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << RECENT_BITS);
	__type(key, __u32);
	__type(value,
	       __u64); /* hash << 32 | the tick's lower 16 bits << 16 | enum recent */
} recent SEC(".maps");

/* Linux sends a SYN the last time 127 s after the first (tcp_syn_retries, 6). */
#define RECENT_TICKS SECONDS(128)

always_inline __u64 *recent_of(__u32 hash)
{
	__u32 place = hash >> (32 - RECENT_BITS);

	return bpf_map_lookup_elem(&recent, &place);
}

/* Whether the last that was noted of a flow is this. */
always_inline int is_recent(__u32 hash, enum recent what)
{
	const __u64 *word = recent_of(hash);

	return word && *word >> 32 == hash && (__u16)*word == what &&
	       (__u16)(tick() - (*word >> 16)) < RECENT_TICKS;
}

always_inline void note_recent(__u32 hash, enum recent what)
{
	__u64 *word = recent_of(hash);

	if (word)
		*word = (__u64)hash << 32 | (__u64)(__u16)tick() << 16 | what;
}

always_inline struct load *load_of(__u32 backend)
{
	return bpf_map_lookup_elem(&loads, &backend);
}

/* The flows that a backend would have with one more. */
always_inline __u64 with_one_more(const struct load *load)
{
	__s64 active = *(volatile const __s64 *)&load->active;

	return active > 0 ? active + 1 : 1;
}

/* Whether a backend has less load than another. */
always_inline int is_lighter(__u32 backend, __u32 other)
{
	const struct load *a = load_of(backend), *b = load_of(other);

	if (!a || !b)
		return 0;
	return with_one_more(a) * b->weight < with_one_more(b) * a->weight;
}

always_inline __u32 second_hash(__u32 hash)
{
	return mix((__u64)hash + 1) >> 32;
}

/* The backend of the second slot of a hash, if it has less load than that of the
 * first; otherwise 0. A function of its own, as the next ones, so that the verifier
 * walks it once and not once for every way to get here.
 */
__noinline __u32 find_lighter(__u64 table, __u32 hash, __u32 first)
{
	__u32 second = slot_at(place_of(table, second_hash(hash))).current;

	return second != first && is_lighter(second, first) ? second : 0;
}

/* Returns 0. */
__noinline int flow_opens(__u32 backend)
{
	struct load *load = load_of(backend);

	if (load)
		__sync_fetch_and_add(&load->active, 1);
	return 0;
}

/* Flows that nobody saw open close too, so the count stops at 0. Returns 0. */
__noinline int flow_closes(__u32 backend)
{
	struct load *load = load_of(backend);

	if (load && *(volatile __s64 *)&load->active > 0)
		__sync_fetch_and_add(&load->active, -1);
	return 0;
}
