/* Fragments: only the first one has ports, which the later ones are looked up by.
 * One that comes before its first is lost for its service: nothing tells where to
 * send it.
 */
#pragma once

#include "parse.h"
#include "service.h"

always_inline void fragment_key4(const struct packet *p, const struct tuple4 *t,
				 struct fragment_key4 *key)
{
	key->source = t->source;
	key->destination = t->destination;
	key->id = p->id;
	key->protocol = t->ports.protocol;
}

always_inline void fragment_key6(const struct packet *p, const struct tuple6 *t,
				 struct fragment_key6 *key)
{
	__builtin_memcpy(key->source, t->source, sizeof(key->source));
	__builtin_memcpy(key->destination, t->destination, sizeof(key->destination));
	key->id = p->id;
}

always_inline void remember_fragment4(const struct packet *p, const struct tuple4 *t)
{
	struct fragment_key4 key = {};

	if (p->fragment != FIRST_FRAGMENT)
		return;
	fragment_key4(p, t, &key);
	bpf_map_update_elem(&fragments4, &key, &t->ports, BPF_ANY);
}

always_inline void remember_fragment6(const struct packet *p, const struct tuple6 *t)
{
	struct fragment_key6 key = {};

	if (p->fragment != FIRST_FRAGMENT)
		return;
	fragment_key6(p, t, &key);
	bpf_map_update_elem(&fragments6, &key, &t->ports, BPF_ANY);
}

/* Gives a later fragment the ports of its first. */
always_inline int recall_fragment4(const struct packet *p, struct tuple4 *t)
{
	struct fragment_key4 key = {};
	const struct ports *ports;

	if (p->fragment != LATER_FRAGMENT)
		return NEXT;
	fragment_key4(p, t, &key);
	ports = bpf_map_lookup_elem(&fragments4, &key);
	if (!ports)
		return is_service4(t->destination) ? DROP_FRAGMENT_UNKNOWN
						   : PASS_FRAGMENT;
	t->ports = *ports;
	return NEXT;
}

always_inline int recall_fragment6(const struct packet *p, struct tuple6 *t)
{
	struct fragment_key6 key = {};
	const struct ports *ports;

	if (p->fragment != LATER_FRAGMENT)
		return NEXT;
	fragment_key6(p, t, &key);
	ports = bpf_map_lookup_elem(&fragments6, &key);
	if (!ports)
		return is_service6(t->destination) ? DROP_FRAGMENT_UNKNOWN
						   : PASS_FRAGMENT;
	t->ports = *ports;
	return NEXT;
}
