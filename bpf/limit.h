/* A limit of the new flows of each source: the generic cell rate algorithm (ITU-T
 * I.371, annex A), which is a token bucket in one word: the time at which the
 * next flow would be due if flows came evenly. It may be ahead of now by a burst.
 */
#pragma once

#include "hash.h"
#include "service.h"

/* Takes one of what the limit of a service leaves to a source. A function of its own,
 * so that the verifier walks it once and not once for every way to get here.
 */
__noinline int take_token(const struct bucket_key *source)
{
	__u64 now = bpf_ktime_get_coarse_ns(), interval, ahead, fresh, *due;
	struct bucket_key key;
	const struct service *s;

	if (!source)
		return NEXT;
	key = *source;
	s = service_at(key.service);
	if (!s)
		return NEXT;
	interval = s->limit_interval;
	ahead = interval * s->limit_burst;
	fresh = now + interval;
	due = bpf_map_lookup_elem(&buckets, &key);
	if (!due) {
		bpf_map_update_elem(&buckets, &key, &fresh, BPF_ANY);
		return NEXT;
	}
	for (int i = 0; i < 4; i++) { /* other CPUs may take one at the same time */
		__u64 old = *(volatile __u64 *)due;
		__u64 next = (old > now ? old : now) + interval;

		if (old > now + ahead) /* since the limit was another */
			__sync_val_compare_and_swap(due, old, now + ahead);
		if (next - now > ahead)
			return DROP_RATE_LIMITED;
		if (__sync_val_compare_and_swap(due, old, next) == old)
			return NEXT;
	}
	return DROP_RATE_LIMITED;
}

always_inline int limit4(const struct service *s, __u32 service, const struct tuple4 *t)
{
	struct bucket_key key = { .service = service };

	if (!(s->flags & SERVICE_LIMITED))
		return NEXT;
	key.address[0] = t->source & prefix_mask(s->limit_prefix, 0);
	return take_token(&key);
}

always_inline int limit6(const struct service *s, __u32 service, const struct tuple6 *t)
{
	struct bucket_key key = { .service = service };

	if (!(s->flags & SERVICE_LIMITED))
		return NEXT;
	for (int i = 0; i < 4; i++)
		key.address[i] = t->source[i] & prefix_mask(s->limit_prefix, i);
	return take_token(&key);
}
