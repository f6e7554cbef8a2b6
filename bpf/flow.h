/* The flows that are remembered, by the tuple that their client sends. Those of nat
 * are kept in nat.h.
 *
 * An SCTP association is also remembered by its ports and the verification tag
 * that its backend chose: its client may have several addresses (RFC 9260,
 * section 6.4).
 */
#pragma once

#include "clock.h"
#include "parse.h"
#include "slot.h"

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

/* A client that uses the port of a closed connection again opens a new one. With
 * just-enough tracking connections close where no flow is looked up, so there any SYN
 * opens a new one that does not repeat the first.
 */
always_inline int reopens(const struct flow *flow, const struct packet *p,
			  const struct service *s)
{
	if (!is_syn(p))
		return 0;
	return flow->state == FLOW_CLOSING ||
	       (s->flags & SERVICE_JUST_ENOUGH && flow->state != FLOW_OPENING);
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

/* Whether somebody asks when the flow of a choice was last seen: the sweep that ends
 * transitions, or who waits for the last flow of a draining backend.
 */
always_inline int keeps_age(const struct choice *c)
{
	return c->backend->flags & BACKEND_DRAINING ||
	       (c->service->flags & (SERVICE_JUST_ENOUGH | SERVICE_P2C)) ==
		   SERVICE_JUST_ENOUGH;
}

/* Notes that a packet of a remembered flow passes. */
always_inline void note_flow(const struct packet *p, const struct choice *c)
{
	struct flow *flow = c->flow;

	if (is_closing(p))
		flow->state = FLOW_CLOSING;
	else if (flow->state == FLOW_OPENING && !is_syn(p))
		flow->state = FLOW_OPEN;
	if (keeps_age(c) || flow->state == FLOW_CLOSING) {
		__u32 now = tick();

		if (flow->seen != now)
			flow->seen = now;
	}
}

always_inline void describe_new(const struct packet *p, const struct choice *c,
				struct flow *flow)
{
	flow->backend = c->index;
	flow->generation = c->backend->generation;
	flow->set = p->verdict.set;
	flow->state = is_syn(p)	      ? FLOW_OPENING
		      : is_closing(p) ? FLOW_CLOSING
				      : FLOW_OPEN;
	flow->timed = p->timed;
	flow->seen = tick();
}

/* Whether the tuple must lead to the backend from now on: that of a flow that has to
 * be remembered, and of a first fragment that came there by more than its tuple, which
 * later ones lack.
 */
always_inline int needs_flow(const struct packet *p, const struct choice *c)
{
	return c->remember || (p->fragment == FIRST_FRAGMENT &&
			       (p->verdict.cause == CAUSE_ASSOCIATION ||
				p->verdict.cause == CAUSE_CONNECTION_ID));
}

/* Remembers the flow of a packet if it has to be, or notes that it passes, in the modes
 * that are not nat.
 */
always_inline void remember_flow4(const struct packet *p, const struct choice *c,
				  const struct tuple4 *t)
{
	struct flow4 flow = {};

	if (c->flow)
		note_flow(p, c);
	if (!needs_flow(p, c) && !p->tag)
		return;
	describe_new(p, c, &flow.head);
	flow.hash = c->slot_hash;
	if (needs_flow(p, c))
		bpf_map_update_elem(&flows4, t, &flow, BPF_ANY);
	if (p->tag && p->verdict.cause != CAUSE_ASSOCIATION) {
		struct tuple4 key;

		association4(p, t, &key);
		bpf_map_update_elem(&flows4, &key, &flow, BPF_ANY);
	}
}

always_inline void remember_flow6(const struct packet *p, const struct choice *c,
				  const struct tuple6 *t)
{
	struct flow6 flow = {};

	if (c->flow)
		note_flow(p, c);
	if (!needs_flow(p, c) && !p->tag)
		return;
	describe_new(p, c, &flow.head);
	flow.hash = c->slot_hash;
	if (needs_flow(p, c))
		bpf_map_update_elem(&flows6, t, &flow, BPF_ANY);
	if (p->tag && p->verdict.cause != CAUSE_ASSOCIATION) {
		struct tuple6 key;

		association6(p, t, &key);
		bpf_map_update_elem(&flows6, &key, &flow, BPF_ANY);
	}
}
