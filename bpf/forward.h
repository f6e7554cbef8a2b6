/* What all ways to a backend share: the last steps of a packet. */
#pragma once

#include "count.h"
#include "encap.h"
#include "select.h"

/* Whether the packet with `outer` more bytes fits the next hop's MTU. */
always_inline int fits(const struct packet *p, const struct hop *hop, __u32 outer)
{
	return !hop->mtu || p->length + outer <= hop->mtu;
}

/* Sends a packet to its backend, and counts it. */
always_inline int finish(const struct xdp_md *ctx, const struct hop *hop, __u32 backend,
			 __u32 length, int new_flow)
{
	int action = send(ctx, hop);

	if (action == XDP_DROP)
		return drop(DROP_NO_DEVICE);
	count_packet(backend, length, new_flow);
	return action;
}

/* Sends a packet to a client, and counts it. */
always_inline int finish_reply(const struct xdp_md *ctx, const struct hop *hop,
			       __u32 backend)
{
	int action = send(ctx, hop);

	if (action == XDP_DROP)
		return drop(DROP_NO_DEVICE);
	count_reply(backend);
	return action;
}

/* l2 and ipip: the packet goes to its backend as it is, perhaps in an outer
 * header.
 */
always_inline int send_whole(struct xdp_md *ctx, const struct packet *p,
			     const struct choice *c, const struct hop *hop, __u8 mode,
			     const struct inner *in, __u32 hash)
{
	if (mode == MODE_L2)
		return write_link(ctx, p->l3, hop, 0, p->ethertype);
	return encapsulate(ctx, p->l3, c->backend, hop, in, hash);
}

always_inline __u32 outer_length(__u8 mode, const struct backend *b)
{
	if (mode != MODE_IPIP)
		return 0;
	return b->flags & BACKEND_IPV6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}
