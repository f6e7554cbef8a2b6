/* Showing packets to user space. The program that forwards does not hold this: one
 * that shows takes its place for as long as somebody looks.
 */
#pragma once

#include "frame.h"
#include "maps.h"

/* Set when the program is loaded. */
const volatile __u32 capture_every = 1;	   /* one of so many */
const volatile __u32 capture_service = ~0; /* index, ~0 is all */
const volatile __u32 capture_reason = ~0;  /* enum reason, ~0 is all */

__u64 capture_lost; /* events that found the buffer full */

MAP(scratch, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct event, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

always_inline struct event *event(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

/* Copies up to SNAP bytes of the frame, which has at least one. Returns its length.
 * The mask changes nothing; it tells the verifier what it does not see otherwise.
 */
always_inline __u32 copy_frame(struct xdp_md *ctx, __u8 *to)
{
	__u64 length = frame_length(ctx);
	__u64 last = opaque((length < SNAP ? length : SNAP) - 1) & (SNAP - 1);

	bpf_xdp_load_bytes(ctx, 0, to, last + 1);
	return length;
}

always_inline void show_before(struct xdp_md *ctx)
{
	struct event *e = event();

	if (e)
		e->before = copy_frame(ctx, e->frame_before);
}

always_inline int is_wanted(const struct verdict *v)
{
	if (capture_service != ~0U && (!v->served || v->service != capture_service))
		return 0;
	if (capture_reason != ~0U && v->reason != capture_reason)
		return 0;
	return capture_every <= 1 || bpf_get_prandom_u32() % capture_every == 0;
}

always_inline void show_after(struct xdp_md *ctx, const struct packet *p, int action)
{
	struct event *e;

	if (!is_wanted(&p->verdict))
		return;
	e = event();
	if (!e)
		return;
	e->time = bpf_ktime_get_ns();
	e->verdict = p->verdict;
	e->ifindex = ctx->ingress_ifindex;
	e->action = action;
	e->after = copy_frame(ctx, e->frame_after);
	if (bpf_ringbuf_output(&events, e, sizeof(*e), 0))
		__sync_fetch_and_add(&capture_lost, 1);
}
