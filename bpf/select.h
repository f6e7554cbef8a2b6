/* From a flow to its backend: the one that its QUIC connection ID names, the one
 * that is remembered, or the one of its slot.
 */
#pragma once

#include "flow.h"
#include "quic.h"
#include "service.h"

/* The chosen backend, and what chose it. */
struct choice {
	const struct service *service;
	const struct service *table; /* of the set of backends to choose from */
	struct backend *backend;
	struct flow *flow; /* that remembers the backend, NULL when none does */
	__u32 hash;	   /* of the flow */
	__u32 index;
};

/* The slot of a hash, in the table that is current at this moment. The region
 * and its size are read as one word, so the packet sees one whole table.
 */
always_inline const struct slot *find_slot(const struct service *s, __u32 hash,
					   struct verdict *v)
{
	__u64 table = *(volatile const __u64 *)&s->table;
	__u32 index, line;
	struct slot_line *found;

	v->hash = hash;
	v->slots = table >> 32;
	v->slot = (table >> 32) * hash >> 32;
	index = (__u32)table + v->slot;
	line = index / SLOTS_PER_LINE;
	if (!v->slots)
		return NULL;
	found = bpf_map_lookup_elem(&slots, &line);
	return found ? &found->slots[index % SLOTS_PER_LINE] : NULL;
}

always_inline int take(struct packet *p, struct choice *c, __u32 index,
		       struct backend *backend, struct flow *flow, enum cause cause)
{
	/* Before the rest, for it is written after it. */
	__u32 ifindex = *(volatile const __u32 *)&backend->hop.ifindex;

	c->index = index;
	c->backend = backend;
	c->flow = flow;
	p->hop = backend->hop;
	p->hop.ifindex = ifindex;
	p->verdict.backend = index;
	p->verdict.cause = cause;
	return ifindex ? NEXT : DROP_NEXT_HOP_UNRESOLVED;
}

/* The backend that is remembered for a packet, if it is one of the packet's service:
 * what is remembered may be from before the service was there, when another one
 * had its address and port, in another mode perhaps.
 */
always_inline struct backend *recall(const struct packet *p, __u32 index,
				     __u16 generation)
{
	struct backend *b = serving(index, generation);

	return b && b->service == p->verdict.service ? b : NULL;
}

/* Takes the remembered backend, or the one of the slot of the hash. flow is what
 * find_flow4 or find_flow6 found.
 */
always_inline int choose(struct packet *p, struct choice *c, struct flow *flow,
			 __u32 hash)
{
	struct backend *backend;
	const struct slot *slot;
	__u32 index;

	if (flow && !reopens(flow, p)) {
		backend = recall(p, flow->backend, flow->generation);
		if (backend)
			return take(p, c, flow->backend, backend, flow,
				    p->verdict.cause);
	}
	slot = c->table ? find_slot(c->table, hash, &p->verdict) : NULL;
	index = slot ? slot->current : 0;
	backend = bpf_map_lookup_elem(&backends, &index);
	if (!index || !backend)
		return DROP_NO_BACKEND;
	return take(p, c, index, backend, NULL, CAUSE_SLOT);
}

/* The same for a packet of a client: one of QUIC goes first of all to the backend
 * that its connection ID names. Only nat remembers that.
 */
always_inline int choose_for(struct xdp_md *ctx, struct packet *p, struct choice *c,
			     struct flow *flow, __u32 hash)
{
	const struct server *server = NULL;
	struct backend *backend = NULL;
	int result;

	if (c->service->flags & SERVICE_QUIC)
		server = find_server(ctx, p, c->service);
	if (server)
		backend = recall(p, server->backend, server->generation);
	if (!backend) {
		result = choose(p, c, flow, hash);
		p->new_flow = p->verdict.cause == CAUSE_SLOT;
		return result;
	}
	if (flow && (flow->backend != server->backend ||
		     flow->generation != server->generation))
		flow = NULL;
	p->new_flow = !flow && c->service->mode == MODE_NAT;
	return take(p, c, server->backend, backend, flow, CAUSE_CONNECTION_ID);
}
