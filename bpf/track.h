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
 * without one. A function of its own, as the next, so that the verifier walks it once
 * and not once for every way to get here.
 */
__noinline __u32 older_owner(__u32 set, __u32 hash)
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

/* Notes that a packet goes to the previous backend of a slot. Returns 0. */
__noinline int note_previous(__u32 place)
{
	__u32 line = place / SLOTS_PER_LINE;
	struct tick_line *found = bpf_map_lookup_elem(&ticks, &line);
	__u16 now = tick(), *seen;

	if (!found)
		return 0;
	seen = &found->ticks[place % SLOTS_PER_LINE];
	if (*seen != now)
		*seen = now;
	return 0;
}

/* The backend at an index if it is one of this service and its flows stay. */
always_inline struct backend *serving_here(const struct packet *p, __u32 index)
{
	struct backend *b = bpf_map_lookup_elem(&backends, &index);

	if (!index || !b || b->service != p->verdict.service ||
	    !(b->flags & BACKEND_SERVING))
		return NULL;
	return b;
}

/* The backend that a flow which is not remembered belongs to while its slot is in
 * transition; NULL when that is none any more. What only the older table tells has to
 * be remembered, since that one goes.
 */
always_inline struct backend *find_previous(const struct packet *p, struct choice *c)
{
	struct backend *backend;

	c->index = older_owner(p->verdict.set, c->slot_hash);
	backend = serving_here(p, c->index);
	if (backend) {
		c->remember = 1;
		return backend;
	}
	c->index = c->slot.previous;
	return serving_here(p, c->index);
}
