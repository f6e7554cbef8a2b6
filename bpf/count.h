/* Counting: every packet ends in exactly one of these. */
#pragma once

#include "maps.h"

always_inline int end(enum reason reason, int action)
{
	__u64 *count = bpf_map_lookup_elem(&reasons, &reason);

	if (count)
		(*count)++;
	return action;
}

always_inline int pass(enum reason reason)
{
	return end(reason, XDP_PASS);
}

always_inline int drop(enum reason reason)
{
	return end(reason, XDP_DROP);
}

always_inline void count_packet(__u32 backend, __u64 bytes, int new_flow)
{
	struct counters *c = bpf_map_lookup_elem(&counters, &backend);

	if (!c)
		return;
	c->packets++;
	c->bytes += bytes;
	c->new_flows += new_flow;
}

always_inline void count_reply(__u32 backend)
{
	struct counters *c = bpf_map_lookup_elem(&counters, &backend);

	if (c)
		c->replies++;
}
