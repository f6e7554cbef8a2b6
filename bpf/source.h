/* What the source address alone decides: denied, or which set of backends. */
#pragma once

#include "service.h"

/* Puts the table to choose from into table. */
always_inline int apply_rule(const __u32 *rule, struct verdict *v,
			     const struct service **table)
{
	if (!rule)
		return NEXT;
	if (*rule == SOURCE_DENIED)
		return DROP_DENIED;
	v->set = *rule;
	*table = service_at(*rule);
	return NEXT;
}

always_inline int find_source4(const struct tuple4 *t, struct verdict *v,
			       const struct service **table)
{
	struct source_key4 key = { 64, v->service, t->source };

	if (!((*table)->flags & SERVICE_SOURCES))
		return NEXT;
	return apply_rule(bpf_map_lookup_elem(&sources4, &key), v, table);
}

always_inline int find_source6(const struct tuple6 *t, struct verdict *v,
			       const struct service **table)
{
	struct source_key6 key = { .prefix = 160, .service = v->service };

	if (!((*table)->flags & SERVICE_SOURCES))
		return NEXT;
	__builtin_memcpy(key.address, t->source, sizeof(key.address));
	return apply_rule(bpf_map_lookup_elem(&sources6, &key), v, table);
}
