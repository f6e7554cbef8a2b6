/* From a flow to its backend: the one that its QUIC connection ID names, the one
 * that is remembered, or one of its slot: the current one, or the previous one for
 * what is older than a change.
 */
#pragma once

#include "load.h"
#include "quic.h"
#include "service.h"
#include "track.h"

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

/* Has a new flow go to the backend of its second slot if that has less load. One that
 * came before and is not remembered was left with its first.
 */
always_inline void look_further(struct packet *p, struct choice *c)
{
	__u64 table = current_table(c);
	__u32 second, hash;

	c->repeated = !c->remember && is_recent(c->hash, RECENT_OPENED);
	if (c->repeated || !p->verdict.slots)
		return;
	second = find_lighter(table, c->slot_hash, c->slot.current);
	if (!second)
		return;
	hash = second_hash(c->slot_hash);
	note_slot(&p->verdict, table, hash, place_of(table, hash));
	p->verdict.cause = CAUSE_SECOND;
	c->slot.current = second;
	c->remember = 1;
}

/* Has a flow that is older than the transition of its slot go to the previous backend,
 * if that still serves.
 */
always_inline void look_back(struct packet *p, struct choice *c)
{
	__u32 owner = find_previous(p->verdict.service, p->verdict.set, c->slot_hash,
				    c->place, c->slot.previous);

	if (!owner)
		return;
	c->slot.current = owner & SLOT_INDEX;
	c->remember |= owner / FROM_OLDER;
	p->verdict.cause = CAUSE_PREVIOUS;
}

/* Takes a backend of the slot, for a flow that is not remembered; is_stale says that
 * something is remembered of an earlier flow with the same tuple.
 */
always_inline int choose_by_slot(struct packet *p, struct choice *c, int is_stale)
{
	__u8 flags = c->service->flags;
	struct backend *backend;
	__u32 index;

	if (!p->verdict.slots)
		find_slot(c, &p->verdict);
	c->remember = remembers_all(c->service);
	p->verdict.cause = CAUSE_SLOT;
	if (is_syn(p)) {
		c->remember |=
		    flags & SERVICE_JUST_ENOUGH && (is_stale || c->slot.previous);
		if (flags & SERVICE_P2C)
			look_further(p, c);
	} else if (c->slot.previous) {
		look_back(p, c);
	}
	index = c->slot.current;
	backend = bpf_map_lookup_elem(&backends, &index);
	if (!index || !backend)
		return DROP_NO_BACKEND;
	return take(p, c, index, backend, NULL, p->verdict.cause);
}

/* Takes the remembered backend, or one of the slot. flow is what find_flow4 or
 * find_flow6 found.
 */
always_inline int choose(struct packet *p, struct choice *c, struct flow *flow)
{
	struct backend *backend;

	if (flow && !reopens(flow, p, c->service)) {
		backend = recall(p, flow->backend, flow->generation);
		if (backend)
			return take(p, c, flow->backend, backend, flow,
				    p->verdict.cause);
	}
	return choose_by_slot(p, c, flow != NULL);
}

/* Whether a packet that goes by its slot begins a flow. What is not remembered begins
 * with a SYN only.
 */
always_inline int is_new(const struct packet *p, const struct choice *c)
{
	if (p->verdict.cause != CAUSE_SLOT && p->verdict.cause != CAUSE_SECOND)
		return 0;
	return remembers_all(c->service) || (is_syn(p) && !c->repeated);
}

/* The same as choose for a packet of a client: one of QUIC goes first of all to the
 * backend that its connection ID names. Only nat remembers that.
 */
always_inline int choose_for(struct xdp_md *ctx, struct packet *p, struct choice *c,
			     struct flow *flow)
{
	struct backend *backend = NULL;
	__u64 server = 0;
	int result;

	if (c->service->flags & SERVICE_QUIC && p->fragment != LATER_FRAGMENT)
		server = find_server(ctx, p->l4, p->l3 + p->length, p->verdict.service);
	if (server)
		backend = recall(p, (__u32)server, server >> 32);
	if (!backend) {
		result = choose(p, c, flow);
		p->new_flow = is_new(p, c);
		return result;
	}
	if (flow && (flow->backend | (__u64)flow->generation << 32) != server)
		flow = NULL;
	p->new_flow = !flow && c->service->mode == MODE_NAT;
	return take(p, c, (__u32)server, backend, flow, CAUSE_CONNECTION_ID);
}

always_inline int closed_before(const struct choice *c)
{
	return c->flow ? c->flow->state == FLOW_CLOSING
		       : is_recent(c->hash, RECENT_CLOSED);
}

/* Keeps account of the flows in progress, which the next ones are placed by. */
always_inline void count_load(const struct packet *p, const struct choice *c)
{
	if (!(c->service->flags & SERVICE_P2C))
		return;
	if (is_syn(p) && p->new_flow) {
		note_recent(c->hash, RECENT_OPENED);
		flow_opens(c->index);
	} else if (is_closing(p) && !closed_before(c)) {
		note_recent(c->hash, RECENT_CLOSED);
		flow_closes(c->index);
	}
}
