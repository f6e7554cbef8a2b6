/* What all ways to a backend share. */
#pragma once

#include "encap.h"
#include "select.h"

/* Whether the packet with `outer` more bytes fits the next hop's MTU. */
always_inline int fits(const struct packet *p, __u32 outer)
{
	return !p->hop.mtu || p->length + outer <= p->hop.mtu;
}

/* Has the sender told which MTU it must keep to for the next hop. */
always_inline int tell_mtu(struct packet *p, __u32 outer)
{
	p->hop.mtu -= outer;
	return TELL_MTU;
}

/* l2, ipip and gue: the packet goes to its backend as it is, perhaps in outer
 * headers. in says what the outer ones take over.
 */
always_inline int send_whole(struct xdp_md *ctx, const struct packet *p,
			     const struct choice *c, struct inner *in)
{
	if (c->service->mode == MODE_L2)
		return write_link(ctx, p, 0, p->ethertype);
	return encapsulate(ctx, p, c, in);
}

always_inline int send_whole4(struct xdp_md *ctx, const struct packet *p,
			      const struct choice *c)
{
	const struct iphdr *ip = at(ctx, p->l3);
	struct inner in = { .encapsulated = IPPROTO_IPIP };

	if ((void *)(ip + 1) > data_end(ctx))
		return DROP_NO_HEADROOM;
	in.tos = ip->tos;
	return send_whole(ctx, p, c, &in);
}

always_inline int send_whole6(struct xdp_md *ctx, const struct packet *p,
			      const struct choice *c)
{
	const __be32 *first = at(ctx, p->l3);
	struct inner in = { .encapsulated = IPPROTO_IPV6 };

	if ((void *)(first + 1) > data_end(ctx))
		return DROP_NO_HEADROOM;
	in.tos = bpf_ntohl(*first) >> 20;
	return send_whole(ctx, p, c, &in);
}
