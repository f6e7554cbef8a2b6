/* From a hash to its slot, and what is chosen by it. */
#pragma once

#include "frame.h"
#include "maps.h"

/* The backends of a slot, see SLOT_INDEX_BITS. */
struct slot {
	__u32 current;
	__u32 previous;
};

#define SLOT_INDEX ((1 << SLOT_INDEX_BITS) - 1)

/* The chosen backend, and what chose it. */
struct choice {
	const struct service *service;
	const struct service *table; /* of the set of backends to choose from */
	struct backend *backend;
	struct flow *flow; /* that remembers the backend, NULL when none does */
	__u32 hash;	   /* of the flow */
	__u32 slot_hash;   /* of the part of it that chooses the slot */
	__u32 index;
	__u32 place;	  /* of the slot, in slots */
	struct slot slot; /* zeros before it is looked at */
	__u8 remember;	  /* the flow has to be remembered */
	__u8 repeated;	  /* a SYN that came before */
};

/* The place of a hash's slot in the table that a word names. */
always_inline __u32 place_of(__u64 table, __u32 hash)
{
	return (__u32)table + ((table >> 32) * hash >> 32);
}

/* The slot at a place, zeros when there is none: both its backends of one moment. */
always_inline struct slot slot_at(__u32 place)
{
	const volatile __u64 *found = bpf_map_lookup_elem(&slots, &place);
	__u64 word = found ? *found : 0;

	return (struct slot) {
		.current = word & SLOT_INDEX,
		.previous = word >> SLOT_INDEX_BITS & SLOT_INDEX,
	};
}

/* The table to choose from that is current at this moment. The region and its size
 * are read as one word, so the packet sees one whole table.
 */
always_inline __u64 current_table(const struct choice *c)
{
	return c->table ? *(volatile const __u64 *)&c->table->table : 0;
}

always_inline void note_slot(struct verdict *v, __u64 table, __u32 hash, __u32 place)
{
	v->hash = hash;
	v->slots = table >> 32;
	v->slot = place - (__u32)table;
}

/* Looks at the first slot of a flow. */
always_inline void find_slot(struct choice *c, struct verdict *v)
{
	__u64 table = current_table(c);

	c->place = place_of(table, c->slot_hash);
	note_slot(v, table, c->slot_hash, c->place);
	if (v->slots)
		c->slot = slot_at(c->place);
}
