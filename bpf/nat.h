/* Network address and port translation, both ways. A flow is remembered twice:
 * by the tuple of its client (flows4, flows6) and by the tuple of its backend's
 * replies (replies4, replies6). Either can be evicted alone, so whichever is
 * still there restores the other, at most once a tick.
 */
#pragma once

#include "clock.h"
#include "hash.h"
#include "rewrite.h"
#include "select.h"
#include "signal.h"

/* How many ports are tried for a new flow. With half of all ports taken the
 * chance that none is free is 2^-16.
 */
#define PORT_ATTEMPTS 16

/* When the port of a silent flow can be given to another: established TCP after
 * 2 h 4 min (RFC 5382, REQ-5), UDP after 5 min (RFC 4787, REQ-5); what is
 * opening, closed, or a single datagram after 60 s, as long as Linux keeps
 * TIME-WAIT, and when ports get scarce after 4 s.
 */
#define TCP_IDLE SECONDS(7440)
#define UDP_IDLE SECONDS(300)
#define TRANSIENT_IDLE SECONDS(60)
#define PRESSED_IDLE SECONDS(4)

always_inline int is_nat_port(__be16 port)
{
	__u16 p = bpf_ntohs(port);

	return p >= nat_port_first && p <= nat_port_last;
}

/* Notes whose reply a packet is, unless that backend's flows have left it. */
always_inline int note_reply(struct packet *p, const struct reply *reply)
{
	const struct backend *b = serving(reply->backend, reply->generation);

	if (!b)
		return 0;
	p->hop = reply->hop;
	p->verdict.backend = reply->backend;
	p->verdict.service = p->verdict.set = b->service;
	p->verdict.served = 1;
	p->verdict.cause = CAUSE_REPLY;
	return 1;
}

/* The way back of a reply, NULL for what is none. */
always_inline struct reply4 *find_reply4(struct packet *p, const struct tuple4 *t)
{
	struct reply4 *reply;

	if (!is_nat_port(t->ports.destination))
		return NULL;
	reply = bpf_map_lookup_elem(&replies4, t);
	return reply && note_reply(p, &reply->head) ? reply : NULL;
}

always_inline struct reply6 *find_reply6(struct packet *p, const struct tuple6 *t)
{
	struct reply6 *reply;

	if (!is_nat_port(t->ports.destination))
		return NULL;
	reply = bpf_map_lookup_elem(&replies6, t);
	return reply && note_reply(p, &reply->head) ? reply : NULL;
}

/* Whether two ways back lead to the same client and service. size is that of
 * the family's form.
 */
always_inline int same_client(const struct reply *a, const struct reply *b, __u32 size)
{
	const __u32 *x = (const __u32 *)(a + 1), *y = (const __u32 *)(b + 1);
	__u32 differ = a->client_port ^ b->client_port;

	differ |= a->service_port ^ b->service_port;
	for (__u32 i = 0; i < (size - sizeof(*a)) / sizeof(*x); i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

always_inline __u32 idle_limit(__u8 state, __u8 protocol, int pressed)
{
	if (state != FLOW_OPEN)
		return pressed ? PRESSED_IDLE : TRANSIENT_IDLE;
	return protocol == IPPROTO_TCP ? TCP_IDLE : UDP_IDLE;
}

/* Decides whether a taken port may be given to a new flow; among CPUs that want
 * it at once, the one whose exchange succeeds gets it.
 */
always_inline int expire(struct reply *old, const struct reply *new, __u32 size,
			 __u8 protocol, int pressed)
{
	__u32 seen = old->seen;
	__s32 idle =
	    new->seen - seen; /* less than 0 when another CPU is a tick ahead */

	if (!same_client(old, new, size) &&
	    idle < (__s32)idle_limit(old->state, protocol, pressed))
		return 0;
	return __sync_val_compare_and_swap(&old->seen, seen, new->seen) == seen;
}

/* Takes a port for the way back in value and puts it into key, which is the
 * tuple of the replies. The first port tried follows from the hash, so a client
 * that comes again from the same port meets its backend from the same port,
 * which is what TIME-WAIT there expects. Returns -1 when no port is free.
 */
always_inline int claim_port(void *replies, struct ports *key,
			     const struct reply *value, __u32 size, __u32 hash)
{
	__u32 range = nat_port_last - nat_port_first + 1;

	for (int i = 0; i < PORT_ATTEMPTS; i++) {
		struct reply *old;
		int free;

		key->destination =
		    bpf_htons(nat_port_first + ((__u64)hash * range >> 32));
		old = bpf_map_lookup_elem(replies, key);
		free = !old ||
		       expire(old, value, size, key->protocol, i >= PORT_ATTEMPTS / 2);
		if (free && !bpf_map_update_elem(replies, key, value,
						 old ? BPF_ANY : BPF_NOEXIST))
			return 0;
		hash = mix(hash + i + 1);
	}
	return -1;
}

/* What the replies to a packet will be known by, and the way back that they get.
 * It is kept apart from the stack, which is small, and where functions that are
 * not inlined can use it as a key on every kernel.
 */
struct claim4 {
	struct tuple4 back;
	struct reply4 reply;
};

struct claim6 {
	struct tuple6 back;
	struct reply6 reply;
};

MAP(claims4, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct claim4, 0);
MAP(claims6, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct claim6, 0);

always_inline struct claim4 *claim4(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&claims4, &zero);
}

always_inline struct claim6 *claim6(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&claims6, &zero);
}

/* claim_port for the claim of one family. Functions of their own, so that the
 * verifier walks the loop once and not once for every way to get here.
 */
__noinline int claim_port4(__u32 hash)
{
	struct claim4 *c = claim4();

	if (!c)
		return -1;
	return claim_port(&replies4, &c->back.ports, &c->reply.head, sizeof(c->reply),
			  hash);
}

__noinline int claim_port6(__u32 hash)
{
	struct claim6 *c = claim6();

	if (!c)
		return -1;
	return claim_port(&replies6, &c->back.ports, &c->reply.head, sizeof(c->reply),
			  hash);
}

/* Confirms or restores the way back of a remembered flow. Returns -1 when its
 * port belongs to another client by now.
 */
always_inline int keep_reply(void *replies, const struct ports *key,
			     const struct reply *value, __u32 size)
{
	struct reply *reply = bpf_map_lookup_elem(replies, key);

	if (!reply)
		return bpf_map_update_elem(replies, key, value, BPF_NOEXIST);
	if (!same_client(reply, value, size))
		return -1;
	reply->seen = value->seen;
	reply->state = value->state;
	reply->hop = value->hop;
	return 0;
}

/* Confirms or restores the flow that a reply belongs to, unless it left the backend. */
always_inline void keep_flow(void *flows, const struct ports *key,
			     const struct flow *value)
{
	struct flow *flow = bpf_map_lookup_elem(flows, key);

	if (!flow)
		bpf_map_update_elem(flows, key, value, BPF_NOEXIST);
	else if (value->state == FLOW_CLOSING && flow->backend == value->backend &&
		 flow->nat_port == value->nat_port)
		flow->state = FLOW_CLOSING;
}

/* The state after a packet from the client. A UDP flow is open with its second
 * datagram, at a later tick, and one of TCP with its second packet: what begins in
 * the middle may be a stray ACK, which must not hold a port for hours.
 */
always_inline __u8 next_state(const struct flow *flow, const struct packet *p,
			      __u8 protocol, __u32 now)
{
	if (is_closing(p))
		return FLOW_CLOSING;
	if (!flow)
		return FLOW_OPENING;
	if (flow->state != FLOW_OPENING)
		return flow->state;
	if (protocol == IPPROTO_TCP)
		return p->tcp_flags & TCP_SYN ? FLOW_OPENING : FLOW_OPEN;
	return flow->seen == now ? FLOW_OPENING : FLOW_OPEN;
}

always_inline void describe_reply(const struct xdp_md *ctx, const struct packet *p,
				  const struct choice *c, const struct ports *client,
				  __u8 state, __u32 now, struct reply *reply)
{
	__u32 mtu = 0;

	read_hop(ctx, p, &reply->hop);
	if (bpf_check_mtu((void *)ctx, ctx->ingress_ifindex, &mtu, 0, 0) >= 0 &&
	    mtu <= 0xffff)
		reply->hop.mtu = mtu;
	reply->backend = c->index;
	reply->generation = c->backend->generation;
	reply->client_port = client->source;
	reply->service_port = client->destination;
	reply->seen = now;
	reply->state = state;
}

always_inline void describe_flow(const struct packet *p, const struct choice *c,
				 const struct ports *back, const struct reply *reply,
				 struct flow *flow)
{
	flow->backend = c->index;
	flow->generation = c->backend->generation;
	flow->nat_port = back->destination;
	flow->state = reply->state;
	flow->timed = p->timed;
	flow->seen = reply->seen;
}

/* Remembers a new flow, and fills in its port in the claim. */
always_inline int open_flow4(const struct packet *p, const struct choice *c,
			     const struct tuple4 *t, struct claim4 *claim)
{
	struct flow4 flow = { .source = claim->back.destination };

	if (claim_port4(c->hash))
		return DROP_NAT_PORTS_EXHAUSTED;
	describe_flow(p, c, &claim->back.ports, &claim->reply.head, &flow.head);
	if (bpf_map_update_elem(&flows4, t, &flow, BPF_ANY))
		return DROP_FLOW_TABLE_FULL;
	return NEXT;
}

always_inline int open_flow6(const struct packet *p, const struct choice *c,
			     const struct tuple6 *t, struct claim6 *claim)
{
	struct flow6 flow = {};

	__builtin_memcpy(flow.source, claim->back.destination, sizeof(flow.source));
	if (claim_port6(c->hash))
		return DROP_NAT_PORTS_EXHAUSTED;
	describe_flow(p, c, &claim->back.ports, &claim->reply.head, &flow.head);
	if (bpf_map_update_elem(&flows6, t, &flow, BPF_ANY))
		return DROP_FLOW_TABLE_FULL;
	return NEXT;
}

/* Finds or makes the translation of a packet from a client: the rest of the tuple
 * that its backend will reply with.
 */
always_inline int translate4(const struct xdp_md *ctx, const struct packet *p,
			     const struct choice *c, const struct tuple4 *t,
			     struct claim4 *claim)
{
	struct flow4 *flow = (struct flow4 *)c->flow;
	struct reply4 *reply = &claim->reply;
	__u32 now = tick();
	__u8 state = next_state(c->flow, p, t->ports.protocol, now);

	if (flow) {
		claim->back.destination = flow->source;
		claim->back.ports.destination = flow->head.nat_port;
		if (flow->head.seen == now && flow->head.state == state)
			return NEXT;
	}
	reply->client = t->source;
	reply->service = t->destination;
	describe_reply(ctx, p, c, &t->ports, state, now, &reply->head);
	if (flow) {
		flow->head.seen = now;
		flow->head.state = state;
		if (!keep_reply(&replies4, &claim->back.ports, &reply->head,
				sizeof(*reply)))
			return NEXT;
	}
	claim->back.destination = c->backend->source[0];
	return open_flow4(p, c, t, claim);
}

always_inline int translate6(const struct xdp_md *ctx, const struct packet *p,
			     const struct choice *c, const struct tuple6 *t,
			     struct claim6 *claim)
{
	struct flow6 *flow = (struct flow6 *)c->flow;
	struct reply6 *reply = &claim->reply;
	__u32 now = tick();
	__u8 state = next_state(c->flow, p, t->ports.protocol, now);

	if (flow) {
		__builtin_memcpy(claim->back.destination, flow->source,
				 sizeof(flow->source));
		claim->back.ports.destination = flow->head.nat_port;
		if (flow->head.seen == now && flow->head.state == state)
			return NEXT;
	}
	__builtin_memcpy(reply->client, t->source, sizeof(reply->client));
	__builtin_memcpy(reply->service, t->destination, sizeof(reply->service));
	describe_reply(ctx, p, c, &t->ports, state, now, &reply->head);
	if (flow) {
		flow->head.seen = now;
		flow->head.state = state;
		if (!keep_reply(&replies6, &claim->back.ports, &reply->head,
				sizeof(*reply)))
			return NEXT;
	}
	__builtin_memcpy(claim->back.destination, c->backend->source,
			 sizeof(claim->back.destination));
	return open_flow6(p, c, t, claim);
}

/* A packet from a client goes on to its backend. */
always_inline int nat4(struct xdp_md *ctx, const struct packet *p,
		       const struct choice *c, const struct tuple4 *t)
{
	const struct backend *b = c->backend;
	struct claim4 *claim = claim4();
	int result = check_ttl4(ctx, p);

	if (!claim)
		return DROP_NAT_PORTS_EXHAUSTED;
	claim->back = (struct tuple4) {
		.ports.source = b->port ? b->port : t->ports.destination,
		.ports.protocol = t->ports.protocol,
		.source = b->address[0],
	};
	if (result == NEXT)
		result = translate4(ctx, p, c, t, claim);
	if (result == NEXT)
		result = rewrite4(ctx, p, t, &claim->back);
	if (result == NEXT)
		result = write_link(ctx, p, 0, p->ethertype);
	return result;
}

always_inline int nat6(struct xdp_md *ctx, const struct packet *p,
		       const struct choice *c, const struct tuple6 *t)
{
	const struct backend *b = c->backend;
	struct claim6 *claim = claim6();
	int result = check_ttl6(ctx, p);

	if (!claim)
		return DROP_NAT_PORTS_EXHAUSTED;
	claim->back.ports = (struct ports) {
		.source = b->port ? b->port : t->ports.destination,
		.protocol = t->ports.protocol,
	};
	__builtin_memcpy(claim->back.source, b->address, sizeof(claim->back.source));
	if (result == NEXT)
		result = translate6(ctx, p, c, t, claim);
	if (result == NEXT)
		result = rewrite6(ctx, p, t, &claim->back);
	if (result == NEXT)
		result = write_link(ctx, p, 0, p->ethertype);
	return result;
}

/* Notes that a reply passed. Returns whether its flow is to be confirmed. */
always_inline int touch_reply(struct reply *reply, const struct packet *p, __u32 now)
{
	__u8 state = is_closing(p) ? FLOW_CLOSING : reply->state;

	if (state != reply->state)
		flow_closes(reply->backend);
	if (reply->seen == now && reply->state == state)
		return 0;
	reply->seen = now;
	reply->state = state;
	return 1;
}

always_inline void describe_flow_of(const struct reply *reply, const struct ports *back,
				    struct flow *flow)
{
	flow->backend = reply->backend;
	flow->generation = reply->generation;
	flow->nat_port = back->destination;
	flow->state = reply->state;
	flow->seen = reply->seen;
}

/* A packet from a backend, with the tuple t, goes back to its client. */
always_inline int undo_nat4(struct xdp_md *ctx, const struct packet *p,
			    const struct tuple4 *t, struct reply4 *reply)
{
	struct tuple4 forward = {
		.ports.source = reply->head.client_port,
		.ports.destination = reply->head.service_port,
		.ports.protocol = t->ports.protocol,
		.source = reply->client,
		.destination = reply->service,
	};
	int result = check_ttl4(ctx, p);

	if (is_reset(p, &reply->head))
		signal_trouble4(&forward, &reply->head, reset_kind(&reply->head));
	if (touch_reply(&reply->head, p, tick())) {
		struct flow4 flow = { .source = t->destination };

		describe_flow_of(&reply->head, &t->ports, &flow.head);
		keep_flow(&flows4, &forward.ports, &flow.head);
	}
	if (result == NEXT)
		result = rewrite4(ctx, p, t, &forward);
	if (result == NEXT)
		result = write_link(ctx, p, 0, p->ethertype);
	return result;
}

always_inline int undo_nat6(struct xdp_md *ctx, const struct packet *p,
			    const struct tuple6 *t, struct reply6 *reply)
{
	struct tuple6 forward = {
		.ports.source = reply->head.client_port,
		.ports.destination = reply->head.service_port,
		.ports.protocol = t->ports.protocol,
	};
	int result = check_ttl6(ctx, p);

	__builtin_memcpy(forward.source, reply->client, sizeof(forward.source));
	__builtin_memcpy(forward.destination, reply->service,
			 sizeof(forward.destination));
	if (is_reset(p, &reply->head))
		signal_trouble6(&forward, &reply->head, reset_kind(&reply->head));
	if (touch_reply(&reply->head, p, tick())) {
		struct flow6 flow = {};

		__builtin_memcpy(flow.source, t->destination, sizeof(flow.source));
		describe_flow_of(&reply->head, &t->ports, &flow.head);
		keep_flow(&flows6, &forward.ports, &flow.head);
	}
	if (result == NEXT)
		result = rewrite6(ctx, p, t, &forward);
	if (result == NEXT)
		result = write_link(ctx, p, 0, p->ethertype);
	return result;
}
