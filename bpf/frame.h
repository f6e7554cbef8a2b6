/* The frame: where its parts are, and its link header. */
#pragma once

#include "protocol.h"
#include "sluice.h"

/* What is known of a packet beside its tuple. Offsets are in bytes from the
 * start of the frame.
 */
struct packet {
	__u16 ethertype; /* network byte order */
	__u16 vlan;	 /* its tags as in struct hop, 0 is none */
	__u16 inner_vlan;
	__u16 l3;
	__u16 l4;
	__u32 length;	/* of the IP packet, without Ethernet padding */
	__u8 tcp_flags; /* TCP_* */
};

always_inline void *at(const struct xdp_md *ctx, __u32 offset)
{
	return (void *)(long)ctx->data + offset;
}

always_inline void *data_end(const struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* The barrier keeps the compiler from taking the subtraction apart, which the
 * verifier forbids for pointers.
 */
always_inline __u32 frame_length(const struct xdp_md *ctx)
{
	__u64 length = data_end(ctx) - at(ctx, 0);

	asm volatile("" : "+r"(length));
	return length;
}

always_inline int is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) ||
	       ethertype == bpf_htons(ETH_P_8021AD);
}

/* What the parsers return when they got through; otherwise the enum reason to
 * pass the packet for.
 */
#define PARSED (-1)

/* Finds the EtherType behind up to two VLAN tags. */
always_inline int parse_link(const struct xdp_md *ctx, struct packet *p)
{
	const struct ethhdr *eth = at(ctx, 0);
	const struct vlan_tag *tag = (void *)(eth + 1);

	if ((void *)(eth + 1) > data_end(ctx))
		return PASS_MALFORMED;
	p->ethertype = eth->h_proto;
	p->l3 = sizeof(*eth);
	if (!is_vlan(p->ethertype))
		return PARSED;
	if ((void *)(tag + 1) > data_end(ctx))
		return PASS_MALFORMED;
	p->vlan = bpf_ntohs(tag->tci) & VLAN_ID;
	if (p->vlan && eth->h_proto == bpf_htons(ETH_P_8021AD))
		p->vlan |= VLAN_AD;
	p->ethertype = tag->ethertype;
	p->l3 += sizeof(*tag);
	if (!is_vlan(p->ethertype))
		return PARSED;
	tag++;
	if ((void *)(tag + 1) > data_end(ctx))
		return PASS_MALFORMED;
	p->inner_vlan = bpf_ntohs(tag->tci) & VLAN_ID;
	p->ethertype = tag->ethertype;
	p->l3 += sizeof(*tag);
	return PARSED;
}
