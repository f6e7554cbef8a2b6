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

/* The offset of the destination connection ID of the UDP datagram at l4, or 0 when it
 * cannot hold a server ID of so many bytes.
 */
always_inline __u32 find_connection_id(const struct xdp_md *ctx, __u32 l4,
				       __u8 server_id)
{
	__u32 offset = opaque(l4 + sizeof(struct udphdr));
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

/* The backend that the connection ID of a datagram at l4, in an IP packet that ends at
 * end, names: its index | its generation << 32; 0 when it names none. A function of its
 * own, so that the verifier walks it once and not once for every way to get here.
 */
__noinline __u64 find_server(struct xdp_md *ctx, __u32 l4, __u32 end, __u32 service)
{
	struct server_key key = { .service = service };
	const struct service *s = service_at(service);
	const struct server *server;
	const __u8 *first;
	__u32 offset;
	__u64 last;

	if (!s)
		return 0;
	last = (s->quic_length - 1) & (sizeof(key.id) - 1); /* 0 to 14 */
	offset = opaque(find_connection_id(ctx, l4, last + 1));
	if (!offset || offset > MAX_L4 + 16 || offset + 2 + last > end)
		return 0;
	first = at(ctx, offset);
	if ((void *)(first + 1) > data_end(ctx) || *first >> 5 != s->quic_config ||
	    *first >> 5 == QUIC_UNROUTABLE)
		return 0;
	if (bpf_xdp_load_bytes(ctx, offset + 1, key.id, last + 1))
		return 0;
	server = bpf_map_lookup_elem(&servers, &key);
	return server ? server->backend | (__u64)server->generation << 32 : 0;
}
