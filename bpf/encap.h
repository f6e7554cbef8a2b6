/* Encapsulation: an IPv4 or IPv6 packet inside an IPv4 (RFC 2003, RFC 4213) or IPv6
 * (RFC 2473) header, in gue mode with UDP and GUE between. The inner packet is
 * not changed.
 */
#pragma once

#include "checksum.h"
#include "link.h"
#include "select.h"

/* Source ports of gue: the dynamic ports (RFC 6335, section 6), so that routers and
 * the queues of network cards spread flows by them.
 */
#define GUE_SOURCE_FIRST 49152
#define GUE_SOURCE_BITS 14

/* What the outer headers need to know. */
struct inner {
	__u32 length;  /* bytes of what follows the outer IP header */
	__u8 protocol; /* of it */
	__u8 tos;      /* TOS or traffic class: DSCP and ECN (RFC 6040, section 4.1) */
	__u8 encapsulated; /* IPPROTO_IPIP or IPPROTO_IPV6 */
};

always_inline __u32 outer_length(__u8 mode, const struct backend *b)
{
	__u32 ip =
	    b->flags & BACKEND_IPV6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);

	if (mode == MODE_GUE)
		return ip + sizeof(struct gue);
	return mode == MODE_IPIP ? ip : 0;
}

always_inline void write_outer4(struct iphdr *ip, const struct backend *b,
				const struct inner *in)
{
	*ip = (struct iphdr) {
		.version = 4,
		.ihl = sizeof(*ip) / 4,
		.tos = in->tos,
		.tot_len = bpf_htons(sizeof(*ip) + in->length),
		.frag_off = bpf_htons(IPV4_DONT_FRAGMENT),
		.ttl = OUTER_TTL,
		.protocol = in->protocol,
		.saddr = b->source[0],
		.daddr = b->address[0],
	};
	ip->check = header_checksum(ip);
}

/* The flow label comes from the hash, so that routers spread flows by it (RFC
 * 6438).
 */
always_inline void write_outer6(struct ipv6hdr *ip, const struct backend *b,
				const struct inner *in, __u32 hash)
{
	__be32 *first = (__be32 *)ip;

	*first = bpf_htonl(6U << 28 | (__u32)in->tos << 20 | hash >> 12);
	ip->payload_len = bpf_htons(in->length);
	ip->nexthdr = in->protocol;
	ip->hop_limit = OUTER_TTL;
	__builtin_memcpy(&ip->saddr, b->source, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, b->address, sizeof(ip->daddr));
}

/* The UDP checksum is left out: the inner packet has its own (RFC 6935 allows that
 * for IPv6).
 */
always_inline void write_gue(struct gue *gue, const struct inner *in, __u32 hash)
{
	*gue = (struct gue) {
		.udp.source =
		    bpf_htons(GUE_SOURCE_FIRST | (hash & ((1 << GUE_SOURCE_BITS) - 1))),
		.udp.dest = bpf_htons(GUE_PORT),
		.udp.len = bpf_htons(in->length),
		.protocol = in->encapsulated,
	};
}

always_inline int encapsulate(struct xdp_md *ctx, const struct packet *p,
			      const struct choice *c, struct inner *in)
{
	const struct backend *b = c->backend;
	int gue = c->service->mode == MODE_GUE, ipv6 = b->flags & BACKEND_IPV6;
	__u32 outer = outer_length(c->service->mode, b);
	__be16 ethertype = ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	void *header;

	in->protocol = gue ? IPPROTO_UDP : in->encapsulated;
	in->length = p->length + (gue ? sizeof(struct gue) : 0);
	if (write_link(ctx, p, outer, ethertype) != NEXT)
		return DROP_NO_HEADROOM;
	header = at(ctx, link_length(&p->hop));
	if (header + sizeof(struct ipv6hdr) > data_end(ctx))
		return DROP_NO_HEADROOM;
	if (ipv6)
		write_outer6(header, b, in, c->hash);
	else
		write_outer4(header, b, in);
	if (!gue)
		return NEXT;
	header += ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	if (header + sizeof(struct gue) > data_end(ctx))
		return DROP_NO_HEADROOM;
	write_gue(header, in, c->hash);
	return NEXT;
}
