/* Sending: the frame gets the link header of its next hop and leaves. */
#pragma once

#include "maps.h"
#include "parse.h"

always_inline __u32 link_length(const struct hop *hop)
{
	return sizeof(struct ethhdr) + (hop->vlan ? sizeof(struct vlan_tag) : 0) +
	       (hop->inner_vlan ? sizeof(struct vlan_tag) : 0);
}

/* Moves the start of the frame so that its new link header and `outer` bytes
 * fit before the IP header, and writes the link header of p->hop. The bytes
 * after it, at link_length(&p->hop), are the caller's.
 */
always_inline int write_link(struct xdp_md *ctx, const struct packet *p, __u32 outer,
			     __be16 ethertype)
{
	const struct hop *hop = &p->hop;
	int delta = (int)p->l3 - (int)(link_length(hop) + outer);
	struct ethhdr *eth;
	struct vlan_tag *tag;

	if (delta && bpf_xdp_adjust_head(ctx, delta))
		return DROP_NO_HEADROOM;
	eth = at(ctx, 0);
	tag = (void *)(eth + 1);
	if ((void *)(tag + 2) > data_end(ctx))
		return DROP_NO_HEADROOM;
	copy_mac(eth->h_dest, hop->mac);
	copy_mac(eth->h_source, hop->local_mac);
	if (!hop->vlan) {
		eth->h_proto = ethertype;
		return NEXT;
	}
	eth->h_proto = bpf_htons(hop->vlan & VLAN_AD ? ETH_P_8021AD : ETH_P_8021Q);
	tag->tci = bpf_htons(hop->vlan & VLAN_ID);
	if (hop->inner_vlan) {
		tag->ethertype = bpf_htons(ETH_P_8021Q);
		tag++;
		tag->tci = bpf_htons(hop->inner_vlan);
	}
	tag->ethertype = ethertype;
	return NEXT;
}

/* The XDP action that sends the frame out of the hop's interface, or XDP_DROP
 * when user space has not opened that interface for it.
 */
always_inline int send(const struct xdp_md *ctx, const struct hop *hop)
{
	if (hop->ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect_map(&devices, hop->ifindex, XDP_DROP);
}

/* The way back to where the frame came from. */
always_inline void read_hop(const struct xdp_md *ctx, const struct packet *p,
			    struct hop *hop)
{
	const struct ethhdr *eth = at(ctx, 0);

	if ((void *)(eth + 1) > data_end(ctx))
		return;
	copy_mac(hop->mac, eth->h_source);
	copy_mac(hop->local_mac, eth->h_dest);
	hop->ifindex = ctx->ingress_ifindex;
	hop->vlan = p->vlan;
	hop->inner_vlan = p->inner_vlan;
	hop->mtu = 0;
	hop->pad = 0;
}
