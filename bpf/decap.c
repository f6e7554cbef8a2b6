/* The backend's side of ipip and gue: an XDP program that takes the outer headers
 * off, so that no tunnel device is needed. The inner packet reaches the host as
 * if it had come in its own frame.
 */
#include "checksum.h"
#include "frame.h"

char __license[] SEC("license") = "Dual MIT/GPL";

/* What there is to know of the outer headers. */
struct outer {
	__u32 length; /* bytes */
	__u8 inner;   /* IPPROTO_IPIP or IPPROTO_IPV6 */
	__u8 ecn;
};

always_inline int parse_outer4(const struct xdp_md *ctx, const struct packet *p,
			       struct outer *o)
{
	const struct iphdr *ip = at(ctx, p->l3);

	if ((void *)(ip + 1) > data_end(ctx) || ip->ihl < 5)
		return -1;
	if (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return -1;
	o->length = ip->ihl * 4;
	o->inner = ip->protocol;
	o->ecn = ip->tos & ECN_MASK;
	return 0;
}

always_inline int parse_outer6(const struct xdp_md *ctx, const struct packet *p,
			       struct outer *o)
{
	const struct ipv6hdr *ip = at(ctx, p->l3);

	if ((void *)(ip + 1) > data_end(ctx))
		return -1;
	o->length = sizeof(*ip);
	o->inner = ip->nexthdr;
	o->ecn = bpf_ntohl(*(const __be32 *)ip) >> 20 & ECN_MASK;
	return 0;
}

/* Adds the headers of gue, when they are there, to the outer ones. Options and
 * control messages are left to the host.
 */
always_inline void parse_gue(const struct xdp_md *ctx, const struct packet *p,
			     struct outer *o)
{
	const struct gue *gue = at(ctx, p->l3 + o->length);

	if (o->inner != IPPROTO_UDP || (void *)(gue + 1) > data_end(ctx))
		return;
	if (gue->udp.dest != bpf_htons(GUE_PORT) || gue->variant || gue->flags)
		return;
	o->length += sizeof(*gue);
	o->inner = gue->protocol;
}

/* Congestion that routers marked on the outer header goes on to the inner one
 * (RFC 6040, section 4.2). Returns -1 for a packet to drop: its sender cannot
 * understand the mark.
 */
always_inline int mark_congestion4(const struct xdp_md *ctx, __u32 offset)
{
	struct iphdr *ip = at(ctx, offset);
	__be16 old;

	if ((void *)(ip + 1) > data_end(ctx) || !(ip->tos & ECN_MASK))
		return -1;
	old = *(__be16 *)ip;
	ip->tos |= ECN_CE;
	update(&ip->check, replace16(old, *(__be16 *)ip));
	return 0;
}

always_inline int mark_congestion6(const struct xdp_md *ctx, __u32 offset)
{
	__be32 *first = at(ctx, offset);

	if ((void *)(first + 1) > data_end(ctx))
		return -1;
	if (!(*first & bpf_htonl(ECN_MASK << 20)))
		return -1;
	*first |= bpf_htonl(ECN_CE << 20);
	return 0;
}

/* Moves the link header, length bytes of it, over the outer header, and gives
 * it the EtherType of the inner packet.
 */
always_inline int move_link(struct xdp_md *ctx, __u32 length, __u32 by,
			    __be16 ethertype)
{
	__u8 header[sizeof(struct ethhdr) + 2 * sizeof(struct vlan_tag)];
	__u64 place = opaque(length - sizeof(__be16));
	__be16 *type;

	if (bpf_xdp_load_bytes(ctx, 0, header, sizeof(header)))
		return -1;
	if (bpf_xdp_adjust_head(ctx, by))
		return -1;
	if (length > sizeof(header) || length < sizeof(struct ethhdr))
		return -1;
	if (bpf_xdp_store_bytes(ctx, 0, header, length))
		return -1;
	if (place > sizeof(header))
		return -1;
	type = at(ctx, place);
	if ((void *)(type + 1) > data_end(ctx))
		return -1;
	*type = ethertype;
	return 0;
}

always_inline int decapsulate(struct xdp_md *ctx, const struct packet *p,
			      const struct outer *o)
{
	__u32 inner = p->l3 + o->length;
	__be16 ethertype = bpf_htons(o->inner == IPPROTO_IPIP ? ETH_P_IP : ETH_P_IPV6);

	if (o->ecn == ECN_CE) {
		int result = o->inner == IPPROTO_IPIP ? mark_congestion4(ctx, inner)
						      : mark_congestion6(ctx, inner);

		if (result)
			return XDP_DROP;
	}
	return move_link(ctx, p->l3, o->length, ethertype) ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	struct packet p = {};
	struct outer o = {};
	int result = -1;

	if (parse_link(ctx, &p) != NEXT)
		return XDP_PASS;
	if (p.ethertype == bpf_htons(ETH_P_IP))
		result = parse_outer4(ctx, &p, &o);
	else if (p.ethertype == bpf_htons(ETH_P_IPV6))
		result = parse_outer6(ctx, &p, &o);
	if (!result)
		parse_gue(ctx, &p, &o);
	if (result || (o.inner != IPPROTO_IPIP && o.inner != IPPROTO_IPV6))
		return XDP_PASS;
	return decapsulate(ctx, &p, &o);
}
