/* From a tuple to its service: the exact port first, then every port. */
#pragma once

#include "maps.h"

always_inline struct service *service_at(__u32 index)
{
	return bpf_map_lookup_elem(&services, &index);
}

always_inline struct service *note_service(const __u32 *index, struct verdict *v)
{
	if (!index)
		return NULL;
	v->served = 1;
	v->service = v->set = *index;
	return service_at(*index);
}

always_inline struct service *find_service4(const struct tuple4 *t, struct verdict *v)
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
	return note_service(index, v);
}

always_inline struct service *find_service6(const struct tuple6 *t, struct verdict *v)
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
	return note_service(index, v);
}

/* Whether an address is that of a service: user space enters it with port 0 and
 * the protocol of ICMP.
 */
always_inline int is_service4(__be32 address)
{
	struct service_key4 key = { .address = address, .protocol = IPPROTO_ICMP };

	return bpf_map_lookup_elem(&services4, &key) != NULL;
}

always_inline int is_service6(const __be32 *address)
{
	struct service_key6 key = { .protocol = IPPROTO_ICMPV6 };

	__builtin_memcpy(key.address, address, sizeof(key.address));
	return bpf_map_lookup_elem(&services6, &key) != NULL;
}
