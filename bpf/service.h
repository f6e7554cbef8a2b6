/* From a tuple to its service: the exact port first, then every port. */
#pragma once

#include "maps.h"

always_inline struct service *service_at(const __u32 *index)
{
	return index ? bpf_map_lookup_elem(&services, index) : NULL;
}

always_inline struct service *find_service4(const struct tuple4 *t)
{
	struct service_key4 key = {
		.address = t->destination,
		.port = t->ports.destination,
		.protocol = t->ports.protocol,
	};
	const __u32 *index = bpf_map_lookup_elem(&services4, &key);

	if (!index) {
		key.port = 0;
		index = bpf_map_lookup_elem(&services4, &key);
	}
	return service_at(index);
}

always_inline struct service *find_service6(const struct tuple6 *t)
{
	struct service_key6 key = {
		.port = t->ports.destination,
		.protocol = t->ports.protocol,
	};
	const __u32 *index;

	__builtin_memcpy(key.address, t->destination, sizeof(key.address));
	index = bpf_map_lookup_elem(&services6, &key);
	if (!index) {
		key.port = 0;
		index = bpf_map_lookup_elem(&services6, &key);
	}
	return service_at(index);
}
