/* What flows tell of their backend's health while they pass: how long it takes to
 * answer a SYN, and what goes wrong. Told of flows that are sampled, to user space,
 * which judges.
 *
 * A SYN leaves its time, and a mark in the flow. The client's next packet that is no
 * SYN says that the backend has answered, whichever way the answer took. A packet of a
 * flow without the mark costs a few comparisons.
 */
#pragma once

#include "hash.h"
#include "select.h"

/* A SYN so long after the first one begins another handshake: the client has given
 * up, and uses the port again. By then Linux has sent six.
 */
#define HANDSHAKE_LIMIT 60000000000ULL /* ns */

/* client's tuple -> the SIGNAL_OPENED of a handshake that is not answered */
MAP(handshakes4, BPF_MAP_TYPE_LRU_HASH, struct tuple4, struct signal, 0);
MAP(handshakes6, BPF_MAP_TYPE_LRU_HASH, struct tuple6, struct signal, 0);

MAP(sampling, BPF_MAP_TYPE_ARRAY, __u32, struct sampling, BPF_F_MMAPABLE);

/* When a SYN of a watched flow last came, by the upper bits of its hash: the lower bits
 * of the second. So of the packets whose flow is not remembered only few are looked up,
 * those that may be the answer of a handshake: with 1,000 SYNs/s one of nine. It stays
 * in a processor's own cache.
 */
#define AWAITED_BITS 16
#define AWAITED_SECONDS 8

struct awaited {
	__u8 seconds[1 << AWAITED_BITS];
};

MAP(awaited, BPF_MAP_TYPE_ARRAY, __u32, struct awaited, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} signals SEC(".maps");

/* A signal in the making and whose it is, kept where claims are, see nat.h. */
struct note {
	struct signal signal;
	struct tuple4 tuple4;
	struct tuple6 tuple6;
};

MAP(notes, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct note, 0);

always_inline struct note *note(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&notes, &zero);
}

always_inline struct sampling *sampled(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&sampling, &zero);
}

/* By the low bits of the hash; the high ones choose the slot. */
always_inline int is_sampled(__u32 hash)
{
	const struct sampling *s = sampled();
	__u32 every = s ? *(volatile const __u32 *)&s->every : 0;

	return every && !(hash & (every - 1));
}

always_inline __u8 *awaited_since(__u32 hash)
{
	__u32 zero = 0;
	struct awaited *a = bpf_map_lookup_elem(&awaited, &zero);

	return a ? &a->seconds[hash >> (32 - AWAITED_BITS)] : NULL;
}

always_inline __u8 this_second(void)
{
	const struct sampling *s = sampled();

	return s ? *(volatile const __u32 *)&s->second : 0;
}

/* Notes that the client of a flow will go on when its SYN is answered. */
always_inline void await(__u32 hash)
{
	__u8 *since = awaited_since(hash), now = this_second();

	if (since && *since != now)
		*since = now;
}

always_inline int is_awaited(__u32 hash)
{
	const __u8 *since = awaited_since(hash);

	return since && (__u8)(this_second() - *since) < AWAITED_SECONDS;
}

always_inline int tell(struct signal *signal)
{
	struct sampling *s;

	if (!bpf_ringbuf_output(&signals, signal, sizeof(*signal), 0))
		return 0;
	s = sampled();
	if (s)
		__sync_fetch_and_add(&s->lost, 1);
	return 0;
}

always_inline int is_same_backend(const struct signal *a, const struct signal *b)
{
	return a->backend == b->backend && a->generation == b->generation;
}

/* A packet of a client that may be one of a handshake: SIGNAL_OPENED for a SYN,
 * SIGNAL_ANSWERED for any other. Which it is, is known here and not by the flow, which
 * may not be remembered.
 */
always_inline int follow(void *handshakes, const void *key, struct signal *signal)
{
	const struct signal *opened = bpf_map_lookup_elem(handshakes, key);

	signal->time = bpf_ktime_get_ns();
	if (opened)
		signal->duration = signal->time - opened->time;
	if (signal->kind == SIGNAL_ANSWERED) {
		if (!opened)
			return 0;
		signal->backend = opened->backend;
		signal->generation = opened->generation;
		if (bpf_map_delete_elem(handshakes, key))
			return 0; /* another CPU tells */
		return tell(signal);
	}
	if (opened && is_same_backend(opened, signal) &&
	    signal->duration < HANDSHAKE_LIMIT) {
		signal->kind = SIGNAL_REPEATED;
		return tell(signal);
	}
	signal->duration = 0;
	bpf_map_update_elem(handshakes, key, signal, BPF_ANY);
	return tell(signal);
}

/* What goes wrong while a handshake is timed tells how long that took. A handshake
 * that is refused is over: what the client sends next is no answer.
 */
always_inline int blame(void *handshakes, const void *key, struct signal *signal)
{
	const struct signal *opened;

	if (!is_sampled(signal->flow))
		return 0;
	opened = bpf_map_lookup_elem(handshakes, key);
	signal->time = bpf_ktime_get_ns();
	if (opened && is_same_backend(opened, signal))
		signal->duration = signal->time - opened->time;
	if (signal->kind == SIGNAL_RESET)
		bpf_map_delete_elem(handshakes, key);
	return tell(signal);
}

/* Both for one family. Functions of their own, so that the verifier walks them once
 * and not once for every way to get here.
 */
__noinline int follow4(void)
{
	struct note *n = note();

	return n ? follow(&handshakes4, &n->tuple4, &n->signal) : 0;
}

__noinline int follow6(void)
{
	struct note *n = note();

	return n ? follow(&handshakes6, &n->tuple6, &n->signal) : 0;
}

__noinline int blame4(void)
{
	struct note *n = note();

	if (!n)
		return 0;
	n->signal.flow = hash4(&n->tuple4);
	return blame(&handshakes4, &n->tuple4, &n->signal);
}

__noinline int blame6(void)
{
	struct note *n = note();

	if (!n)
		return 0;
	n->signal.flow = hash6(&n->tuple6);
	return blame(&handshakes6, &n->tuple6, &n->signal);
}

/* Whether a packet from a client is to be looked at. One of a remembered flow that is
 * not timed is not, unless it is a SYN: another connection from the same port.
 */
always_inline int is_timed(const struct packet *p, const struct choice *c)
{
	if (!p->tcp_flags)
		return 0;
	if (c->flow && c->flow->timed)
		return 1;
	if (!is_syn(p) && (c->flow || p->new_flow))
		return 0;
	return is_sampled(c->hash) && (is_syn(p) || is_awaited(c->hash));
}

/* Notes in the packet, for the record of a new flow, and in that of a known one,
 * whether more packets of the flow are to be looked at.
 */
always_inline void mark_timed(struct packet *p, const struct choice *c)
{
	p->timed = is_timed(p, c);
	if (!p->timed)
		return;
	if (is_syn(p))
		await(c->hash);
	if (c->flow)
		c->flow->timed = is_syn(p);
}

/* Begins a signal. */
always_inline struct note *new_note(enum signal_kind kind, __u32 flow, __u32 backend,
				    __u16 generation)
{
	struct note *n = note();

	if (!n)
		return NULL;
	n->signal = (struct signal) {
		.flow = flow,
		.backend = backend,
		.generation = generation,
		.kind = kind,
	};
	return n;
}

/* A packet that mark_timed has marked went to its backend. */
always_inline struct note *note_handshake(const struct packet *p,
					  const struct choice *c)
{
	return new_note(is_syn(p) ? SIGNAL_OPENED : SIGNAL_ANSWERED, c->hash, c->index,
			c->backend->generation);
}

always_inline void signal_handshake4(const struct packet *p, const struct choice *c,
				     const struct tuple4 *t)
{
	struct note *n = note_handshake(p, c);

	if (!n)
		return;
	n->tuple4 = *t;
	follow4();
}

always_inline void signal_handshake6(const struct packet *p, const struct choice *c,
				     const struct tuple6 *t)
{
	struct note *n = note_handshake(p, c);

	if (!n)
		return;
	n->tuple6 = *t;
	follow6();
}

/* nat: something went wrong behind a way back, to a packet of the client with the
 * tuple t.
 */
always_inline void signal_trouble4(const struct tuple4 *t, const struct reply *reply,
				   enum signal_kind kind)
{
	struct note *n = new_note(kind, 0, reply->backend, reply->generation);

	if (!n)
		return;
	n->tuple4 = *t;
	blame4();
}

always_inline void signal_trouble6(const struct tuple6 *t, const struct reply *reply,
				   enum signal_kind kind)
{
	struct note *n = new_note(kind, 0, reply->backend, reply->generation);

	if (!n)
		return;
	n->tuple6 = *t;
	blame6();
}

/* Whether a packet from a backend is a reset that says something: not one that ends
 * what is closing already.
 */
always_inline int is_reset(const struct packet *p, const struct reply *reply)
{
	return p->tcp_flags & TCP_RST && reply->state != FLOW_CLOSING;
}

always_inline enum signal_kind reset_kind(const struct reply *reply)
{
	return reply->state == FLOW_OPENING ? SIGNAL_RESET : SIGNAL_RESET_OPEN;
}
