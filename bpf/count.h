/* Counting: every packet ends in exactly one of these. */
#pragma once

#include "frame.h"
#include "maps.h"

always_inline void count_reason(enum reason reason)
{
	__u64 *count = bpf_map_lookup_elem(&reasons, &reason);

	if (count)
		(*count)++;
}

always_inline void count_packet(const struct packet *p)
{
	__u32 backend = p->verdict.backend;
	struct counters *c = bpf_map_lookup_elem(&counters, &backend);

	if (!c)
		return;
	c->packets++;
	c->bytes += p->frame;
	c->new_flows += p->new_flow;
}

always_inline void count_reply(const struct packet *p)
{
	__u32 backend = p->verdict.backend;
	struct counters *c = bpf_map_lookup_elem(&counters, &backend);

	if (c)
		c->replies++;
}
