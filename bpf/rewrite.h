/* Rewriting the addresses and ports of a packet in place, with its checksums
 * and one hop of its TTL, as a router does (RFC 3022).
 */
#pragma once

#include "checksum.h"
#include "link.h"

/* Whether a packet may live another hop. */
always_inline int check_ttl4(const struct xdp_md *ctx, const struct packet *p)
{
	const struct iphdr *ip = at(ctx, p->l3);

	if ((void *)(ip + 1) > data_end(ctx) || ip->ttl <= 1)
		return DROP_TTL_EXPIRED;
	return NEXT;
}

always_inline int check_ttl6(const struct xdp_md *ctx, const struct packet *p)
{
	const struct ipv6hdr *ip = at(ctx, p->l3);

	if ((void *)(ip + 1) > data_end(ctx) || ip->hop_limit <= 1)
		return DROP_TTL_EXPIRED;
	return NEXT;
}

/* The ports of rewrite4 and rewrite6. added is what the addresses add to the sum
 * of the pseudo header. A UDP checksum of 0 means none (RFC 768), so one that
 * comes out as 0 is written in its other form.
 */
always_inline int rewrite_ports(struct xdp_md *ctx, const struct packet *p,
				const struct ports *from, const struct ports *answer,
				__u64 added)
{
	__u32 offset = opaque(p->l4);
	struct udphdr *udp;

	if (offset > MAX_L4)
		return DROP_NO_HEADROOM;
	udp = at(ctx, offset);
	if ((void *)(udp + 1) > data_end(ctx))
		return DROP_NO_HEADROOM;
	udp->source = answer->destination;
	udp->dest = answer->source;
	added += replace16(from->source, answer->destination);
	added += replace16(from->destination, answer->source);
	if (from->protocol == IPPROTO_UDP) {
		if (!udp->check)
			return NEXT;
		update(&udp->check, added);
		if (!udp->check)
			udp->check = 0xffff;
		return NEXT;
	}
	if ((void *)udp + sizeof(struct tcphdr) > data_end(ctx))
		return DROP_NO_HEADROOM;
	update(&((struct tcphdr *)udp)->check, added);
	return NEXT;
}

/* Turns the packet with the tuple from into the one that is answered by a packet
 * with the tuple answer: its source is answer's destination.
 */
always_inline int rewrite4(struct xdp_md *ctx, const struct packet *p,
			   const struct tuple4 *from, const struct tuple4 *answer)
{
	struct iphdr *ip = at(ctx, p->l3);
	__u64 added = replace32(from->source, answer->destination) +
		      replace32(from->destination, answer->source);
	__be16 ttl_and_protocol;

	if ((void *)(ip + 1) > data_end(ctx))
		return DROP_NO_HEADROOM;
	ttl_and_protocol = *(__be16 *)&ip->ttl;
	ip->ttl--;
	update(&ip->check, added + replace16(ttl_and_protocol, *(__be16 *)&ip->ttl));
	ip->saddr = answer->destination;
	ip->daddr = answer->source;
	if (p->fragment == LATER_FRAGMENT)
		return NEXT;
	return rewrite_ports(ctx, p, &from->ports, &answer->ports, added);
}

always_inline int rewrite6(struct xdp_md *ctx, const struct packet *p,
			   const struct tuple6 *from, const struct tuple6 *answer)
{
	struct ipv6hdr *ip = at(ctx, p->l3);
	__u64 added = replace128(from->source, answer->destination) +
		      replace128(from->destination, answer->source);

	if ((void *)(ip + 1) > data_end(ctx))
		return DROP_NO_HEADROOM;
	ip->hop_limit--;
	__builtin_memcpy(&ip->saddr, answer->destination, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, answer->source, sizeof(ip->daddr));
	if (p->fragment == LATER_FRAGMENT)
		return NEXT;
	return rewrite_ports(ctx, p, &from->ports, &answer->ports, added);
}
