/* The flows that are remembered, by the tuple that their client sends. Those of nat
 * are kept in nat.h.
 *
 * An SCTP association is also remembered by its ports and the verification tag
 * that its backend chose: its client may have several addresses (RFC 9260,
 * section 6.4).
 */
#pragma once

#include "maps.h"
#include "parse.h"

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
	return flow->state == FLOW_CLOSING && is_syn(p);
}

always_inline void association4(const struct packet *p, const struct tuple4 *t,
				struct tuple4 *key)
{
	*key = *t;
	key->ports.association = 1;
	key->source = p->tag;
}

always_inline void association6(const struct packet *p, const struct tuple6 *t,
				struct tuple6 *key)
{
	*key = *t;
	key->ports.association = 1;
	__builtin_memset(key->source, 0, sizeof(key->source));
	key->source[0] = p->tag;
}

/* The flow of a packet, NULL when none is remembered; what it was found by is
 * noted in the verdict.
 */
always_inline struct flow *find_flow4(struct packet *p, const struct tuple4 *t)
{
	if (p->tag) {
		struct tuple4 key;
		struct flow *flow;

		association4(p, t, &key);
		flow = bpf_map_lookup_elem(&flows4, &key);
		p->verdict.cause = CAUSE_ASSOCIATION;
		if (flow)
			return flow;
	}
	p->verdict.cause = CAUSE_FLOW;
	return bpf_map_lookup_elem(&flows4, t);
}

always_inline struct flow *find_flow6(struct packet *p, const struct tuple6 *t)
{
	if (p->tag) {
		struct tuple6 key;
		struct flow *flow;

		association6(p, t, &key);
		flow = bpf_map_lookup_elem(&flows6, &key);
		p->verdict.cause = CAUSE_ASSOCIATION;
		if (flow)
			return flow;
	}
	p->verdict.cause = CAUSE_FLOW;
	return bpf_map_lookup_elem(&flows6, t);
}

/* Whether the tuple must lead to the backend from now on: of a new flow, and of a
 * first fragment that came there by more than its tuple, which later ones lack.
 */
always_inline int needs_flow(const struct packet *p)
{
	return p->verdict.cause == CAUSE_SLOT ||
	       (p->fragment == FIRST_FRAGMENT && p->verdict.cause != CAUSE_FLOW);
}

/* Remembers the backend of a flow in the modes that are not nat. */
always_inline void remember_flow4(const struct packet *p, const struct tuple4 *t,
				  const struct backend *backend)
{
	struct flow4 flow = {};

	flow.head.backend = p->verdict.backend;
	flow.head.generation = backend->generation;
	flow.head.timed = p->timed;
	if (needs_flow(p))
		bpf_map_update_elem(&flows4, t, &flow, BPF_ANY);
	if (p->tag && p->verdict.cause != CAUSE_ASSOCIATION) {
		struct tuple4 key;

		association4(p, t, &key);
		bpf_map_update_elem(&flows4, &key, &flow, BPF_ANY);
	}
}

always_inline void remember_flow6(const struct packet *p, const struct tuple6 *t,
				  const struct backend *backend)
{
	struct flow6 flow = {};

	flow.head.backend = p->verdict.backend;
	flow.head.generation = backend->generation;
	flow.head.timed = p->timed;
	if (needs_flow(p))
		bpf_map_update_elem(&flows6, t, &flow, BPF_ANY);
	if (p->tag && p->verdict.cause != CAUSE_ASSOCIATION) {
		struct tuple6 key;

		association6(p, t, &key);
		bpf_map_update_elem(&flows6, &key, &flow, BPF_ANY);
	}
}
