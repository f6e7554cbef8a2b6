/* Just-enough tracking: what the slot of a flow can answer for is neither looked up
 * nor remembered. docs/architecture.md tells why no flow moves.
 */
#pragma once

#include "clock.h"
#include "flow.h"

/* Whether every flow is remembered. */
always_inline int remembers_all(const struct service *s)
{
	return !(s->flags & (SERVICE_JUST_ENOUGH | SERVICE_UNTRACKED));
}

/* Whether the flow of a packet has to be looked up. Where the slot tells, it is looked
 * at here.
 */
always_inline int is_looked_up(struct packet *p, struct choice *c)
{
	if (remembers_all(c->service) || c->service->flags & SERVICE_P2C)
		return 1;
	find_slot(c, &p->verdict);
	return c->service->flags & SERVICE_JUST_ENOUGH && c->slot.previous;
}

/* The backend that the table of another size, which came before, has for a hash; 0
 * without one.
 */
always_inline __u32 older_owner(__u32 set, __u32 hash)
{
	struct older *older = bpf_map_lookup_elem(&olders, &set);
	__u32 owner, now;
	struct slot slot;
	__u64 table;

	if (!older)
		return 0;
	table = *(volatile __u64 *)&older->table;
	if (!table)
		return 0;
	slot = slot_at(place_of(table, hash));
	owner = slot.previous ? slot.previous : slot.current;
	now = tick();
	if (owner && older->seen != now)
		older->seen = now;
	return owner;
}

/* Notes that a packet meets the previous backend of a slot. */
always_inline void note_previous(__u32 place)
{
	__u16 now = tick(), *seen = bpf_map_lookup_elem(&slots, &place);

	if (!seen || rehearses)
		return;
	seen += 2 * SLOT_INDEX_BITS / 16;
	if (*seen != now)
		*seen = now;
}

/* Whether a backend is one of the service and its flows stay. */
always_inline int is_serving(__u32 index, __u32 service)
{
	const struct backend *b = bpf_map_lookup_elem(&backends, &index);

	return index && b && b->service == service && b->flags & BACKEND_SERVING;
}

/* In what find_previous returns: the flow has to be remembered, since only the older
 * table tells its backend, and that one goes.
 */
#define FROM_OLDER (1 << SLOT_INDEX_BITS)

/* The backend that a flow which is not remembered belongs to while its slot is in
 * transition; 0 when that is none any more. A function of its own, so that the verifier
 * walks it once and not once for every way to get here.
 */
__noinline __u32 find_previous(__u32 service, __u32 set, __u32 hash, __u32 place,
			       __u32 previous)
{
	__u32 owner = older_owner(set, hash);

	note_previous(place);
	if (is_serving(owner, service))
		return owner | FROM_OLDER;
	return is_serving(previous, service) ? previous : 0;
}
