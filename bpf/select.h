/* From a flow to its backend: the remembered one, or the one of its slot. */
#pragma once

#include "maps.h"
#include "parse.h"

/* The chosen backend. flow is what remembered it, NULL for a new flow. */
struct choice {
	struct backend *backend;
	struct flow *flow;
	__u32 index;
};

/* The backend at an index if it is still the one that was remembered and its
 * flows stay with it.
 */
always_inline struct backend *serving(__u32 index, __u16 generation)
{
	struct backend *b = bpf_map_lookup_elem(&backends, &index);

	if (!b || b->generation != generation || !(b->flags & BACKEND_SERVING))
		return NULL;
	return b;
}

/* A client that uses the port of a closed connection again opens a new one. */
always_inline int reopens(const struct flow *flow, const struct packet *p)
{
	return flow->state == FLOW_CLOSING &&
	       (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* The slot of a hash, in the table that is current at this moment. The region
 * and its size are read as one word, so the packet sees one whole table.
 */
always_inline struct slot *find_slot(const struct service *service, __u32 hash)
{
	__u64 table = *(volatile const __u64 *)&service->table;
	__u32 index = (__u32)table + ((table >> 32) * hash >> 32);
	__u32 line = index / SLOTS_PER_LINE;
	struct slot_line *found;

	if (!(table >> 32))
		return NULL;
	found = bpf_map_lookup_elem(&slots, &line);
	return found ? &found->slots[index % SLOTS_PER_LINE] : NULL;
}

/* Fills in the choice. Returns 0, or -1 when the service has no backend. */
always_inline int choose(struct choice *c, const struct service *service,
			 const struct packet *p, struct flow *flow, __u32 hash)
{
	struct slot *slot;

	if (flow && !reopens(flow, p)) {
		c->backend = serving(flow->backend, flow->generation);
		if (c->backend) {
			c->index = flow->backend;
			c->flow = flow;
			return 0;
		}
	}
	slot = find_slot(service, hash);
	c->flow = NULL;
	c->index = slot ? slot->current : 0;
	c->backend = bpf_map_lookup_elem(&backends, &c->index);
	return c->index && c->backend ? 0 : -1;
}
