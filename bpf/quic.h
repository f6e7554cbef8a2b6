/* QUIC-LB (draft-ietf-quic-load-balancers, section 5.2): a server puts its ID,
 * in plain text, into the connection IDs that it gives out, behind an octet
 * whose first three bits say which configuration that follows. So the packets of
 * a connection find it whatever address their client has by now.
 */
#pragma once

#include "parse.h"
#include "service.h"

#define QUIC_LONG_HEADER 0x80 /* RFC 9000, section 17.2 */
#define QUIC_UNROUTABLE 7     /* a configuration that no server has */

/* The offset of the destination connection ID, or 0 when it cannot hold a server
 * ID of so many bytes.
 */
always_inline __u32 find_connection_id(const struct xdp_md *ctx, const struct packet *p,
				       __u8 server_id)
{
	__u32 offset = opaque(p->l4 + sizeof(struct udphdr));
	const __u8 *first;

	if (offset > MAX_L4)
		return 0;
	first = at(ctx, offset);
	if ((void *)(first + 6) > data_end(ctx))
		return 0;
	if (!(*first & QUIC_LONG_HEADER))
		return offset + 1;
	/* The version, the length of the ID, the ID (RFC 8999, section 5.1). */
	return first[5] > server_id ? offset + 6 : 0;
}

/* The backend that the connection ID names, NULL when it names none. */
always_inline const struct server *
find_server(struct xdp_md *ctx, const struct packet *p, const struct service *s)
{
	struct server_key key = { .service = p->verdict.service };
	__u64 last = (s->quic_length - 1) & (sizeof(key.id) - 1); /* 0 to 14 */
	const __u8 *first;
	__u32 offset;

	if (p->fragment == LATER_FRAGMENT)
		return NULL;
	offset = opaque(find_connection_id(ctx, p, last + 1));
	if (!offset || offset > MAX_L4 + 16 || offset + 2 + last > p->l3 + p->length)
		return NULL;
	first = at(ctx, offset);
	if ((void *)(first + 1) > data_end(ctx) || *first >> 5 != s->quic_config ||
	    *first >> 5 == QUIC_UNROUTABLE)
		return NULL;
	if (bpf_xdp_load_bytes(ctx, offset + 1, key.id, last + 1))
		return NULL;
	return bpf_map_lookup_elem(&servers, &key);
}
