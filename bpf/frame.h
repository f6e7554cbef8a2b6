/* The frame: where its parts are, and its link header. */
#pragma once

#include "protocol.h"
#include "sluice.h"

/* What a fragment has of its packet. */
enum fragment {
	WHOLE,
	FIRST_FRAGMENT,
	LATER_FRAGMENT
};

/* What is known of a packet beside its tuple, and where it goes. Offsets are in
 * bytes from the start of the frame as it came.
 */
struct packet {
	__u16 ethertype; /* network byte order */
	__u16 vlan;	 /* its tags as in struct hop, 0 is none */
	__u16 inner_vlan;
	__u8 l3; /* at most 22 */
	__u16 l4;
	__u32 length;	/* of the IP packet, without Ethernet padding */
	__u32 frame;	/* length of the frame */
	__u8 tcp_flags; /* TCP_* */
	__u8 fragment;	/* enum fragment */
	__be32 id;	/* of a fragment's packet */
	__be32 tag;	/* verification tag of SCTP */

	__u8 new_flow;
	__u8 timed;	/* it may be one of a handshake that is timed */
	struct hop hop; /* that it leaves by, a copy */
	struct verdict verdict;
};

always_inline void *at(const struct xdp_md *ctx, __u32 offset)
{
	return (void *)(long)ctx->data + offset;
}

/* volatile, or the compiler keeps it in half a register, which the verifier does
 * not take for a pointer.
 */
always_inline void *data_end(const struct xdp_md *ctx)
{
	return (void *)(long)*(const volatile __u32 *)&ctx->data_end;
}

/* Makes the compiler forget what it knows of a value, so that it leaves checks in
 * place that the verifier needs, and arithmetic together that it does not allow
 * apart.
 */
always_inline __u64 opaque(__u64 value)
{
	asm volatile("" : "+r"(value));
	return value;
}

always_inline __u32 frame_length(const struct xdp_md *ctx)
{
	return opaque(data_end(ctx) - at(ctx, 0));
}

always_inline int is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) ||
	       ethertype == bpf_htons(ETH_P_8021AD);
}

/* 1 for a tag, otherwise 0, without branches. */
always_inline __u32 count_vlan(__be16 ethertype)
{
	__u64 q = opaque(ethertype ^ bpf_htons(ETH_P_8021Q));
	__u64 ad = opaque(ethertype ^ bpf_htons(ETH_P_8021AD));

	return ((q - 1) | (ad - 1)) >> 63;
}

/* Whether the frame came by a broadcast or multicast MAC: to others as well, so its
 * packet is none to send on (RFC 1812, section 5.3.4).
 */
always_inline int is_for_many(const struct xdp_md *ctx)
{
	const struct ethhdr *eth = at(ctx, 0);

	return (void *)(eth + 1) <= data_end(ctx) && eth->h_dest[0] & 1;
}

/* By halves of words: the frame's addresses are aligned to these. */
always_inline void copy_mac(__u8 *to, const __u8 *from)
{
	for (int i = 0; i < ETH_ALEN; i += 2)
		*(__u16 *)(to + i) = *(const __u16 *)(from + i);
}

/* What each step of a packet's way returns when it goes on; otherwise the enum
 * reason that it ends with.
 */
#define NEXT (-1)

/* The sender must be told that p->hop.mtu is all that fits. */
#define TELL_MTU (-2)

always_inline __u16 vlan_of(__be16 ethertype, const struct vlan_tag *tag)
{
	__u16 id = bpf_ntohs(tag->tci) & VLAN_ID;

	return id && ethertype == bpf_htons(ETH_P_8021AD) ? id | VLAN_AD : id;
}

/* Finds the EtherType behind one or two tags. How many there are is found without
 * branches, so that the verifier walks what follows once for both. No frame that
 * is too short for two holds an IP packet. A tag that has only a priority is none.
 */
always_inline int parse_tags(const struct xdp_md *ctx, struct packet *p)
{
	const struct ethhdr *eth = at(ctx, 0);
	const struct vlan_tag *tag = (void *)(eth + 1);
	const __be16 *type = &tag->ethertype;
	__u32 second;

	if ((void *)(tag + 2) > data_end(ctx))
		return PASS_MALFORMED;
	second = count_vlan(tag->ethertype) * sizeof(*tag);
	p->vlan = vlan_of(eth->h_proto, tag);
	if (second && p->vlan)
		p->inner_vlan = bpf_ntohs(tag[1].tci) & VLAN_ID;
	else if (second)
		p->vlan = vlan_of(tag->ethertype, tag + 1);
	p->l3 = sizeof(*eth) + sizeof(*tag) + second;
	type = (const void *)type + second;
	if ((void *)(type + 1) > data_end(ctx))
		return PASS_MALFORMED;
	p->ethertype = *type;
	return NEXT;
}

/* Finds the EtherType behind up to two VLAN tags. */
always_inline int parse_link(const struct xdp_md *ctx, struct packet *p)
{
	const struct ethhdr *eth = at(ctx, 0);

	if ((void *)(eth + 1) > data_end(ctx))
		return PASS_MALFORMED;
	if (is_vlan(eth->h_proto))
		return parse_tags(ctx, p);
	p->ethertype = eth->h_proto;
	p->l3 = sizeof(*eth);
	return NEXT;
}
