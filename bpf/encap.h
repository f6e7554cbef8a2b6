/* IP-in-IP: an IPv4 or IPv6 packet inside an IPv4 (RFC 2003, RFC 4213) or IPv6
 * (RFC 2473) header. The inner packet is not changed.
 */
#pragma once

#include "checksum.h"
#include "link.h"

/* What the outer header takes over from the packet. */
struct inner {
	__u32 length;  /* bytes, header included */
	__u8 protocol; /* IPPROTO_IPIP or IPPROTO_IPV6 */
	__u8 tos;      /* TOS or traffic class: DSCP and ECN (RFC 6040, section 4.1) */
};

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

always_inline int encapsulate(struct xdp_md *ctx, __u32 l3, const struct backend *b,
			      const struct hop *hop, const struct inner *in, __u32 hash)
{
	int ipv6 = b->flags & BACKEND_IPV6;
	__u32 outer = ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__be16 ethertype = ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	void *header;

	if (write_link(ctx, l3, hop, outer, ethertype) != FORWARD)
		return DROP_NO_HEADROOM;
	header = at(ctx, link_length(hop));
	if (header + sizeof(struct ipv6hdr) > data_end(ctx))
		return DROP_NO_HEADROOM;
	if (ipv6)
		write_outer6(header, b, in, hash);
	else
		write_outer4(header, b, in);
	return FORWARD;
}
