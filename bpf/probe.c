/* The way of probes in the modes whose backends answer clients directly: a tc program
 * at the exit of a device of our own, to which the host routes what carries the mark
 * of a backend. The packet gets what the balancer would put around it, and leaves
 * towards that backend.
 *
 * Sockets leave checksums and the insertion of tags to the device: what is sent to the
 * next hop's device this way is completed for that one by the kernel.
 */
#include <linux/pkt_cls.h>

#include "encap.h"

char __license[] SEC("license") = "Dual MIT/GPL";

/* A mark has the index of a backend in these bits, and probe_mark in the others. Set
 * when the program is loaded.
 */
#define PROBE_INDEX 0xfffff
const volatile __u32 probe_mark = 0;

/* What the outer headers need to know of the packet, as in forward.h. */
always_inline int read_inner(struct __sk_buff *skb, int gue, struct inner *in)
{
	int ipv6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	__be16 first; /* of the IP header: version, length or class, class */

	if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &first, sizeof(first)))
		return -1;
	in->tos = ipv6 ? bpf_ntohs(first) >> 4 : bpf_ntohs(first);
	in->encapsulated = ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	in->protocol = gue ? IPPROTO_UDP : in->encapsulated;
	in->length = skb->len - sizeof(struct ethhdr) + (gue ? sizeof(struct gue) : 0);
	return 0;
}

/* The hash is the kernel's, since only the balancer's own flows have to meet the same
 * slot everywhere: here it spreads probes over routers and queues.
 */
always_inline int write_outer(struct __sk_buff *skb, const struct backend *b, int gue)
{
	__u64 headers[(sizeof(struct ipv6hdr) + sizeof(struct gue) + 7) / 8] = {};
	int ipv6 = b->flags & BACKEND_IPV6;
	__u32 outer = outer_length(gue ? MODE_GUE : MODE_IPIP, b);
	__u32 hash = bpf_get_hash_recalc(skb);
	__u64 flags =
	    ipv6 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;
	struct inner in;

	if (read_inner(skb, gue, &in))
		return -1;
	if (ipv6)
		write_outer6((void *)headers, b, &in, hash);
	else
		write_outer4((void *)headers, b, &in);
	if (gue) {
		write_gue((void *)headers + outer - sizeof(struct gue), &in, hash);
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	}
	if (bpf_skb_adjust_room(skb, outer, BPF_ADJ_ROOM_MAC, flags))
		return -1;
	return bpf_skb_store_bytes(skb, sizeof(struct ethhdr), headers, outer, 0);
}

/* The tags, the inner one first: each goes before what is there. */
always_inline int push_tags(struct __sk_buff *skb, const struct hop *hop)
{
	__be16 outer = bpf_htons(hop->vlan & VLAN_AD ? ETH_P_8021AD : ETH_P_8021Q);

	if (!hop->vlan)
		return 0;
	if (hop->inner_vlan &&
	    bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), hop->inner_vlan))
		return -1;
	return bpf_skb_vlan_push(skb, outer, hop->vlan & VLAN_ID);
}

always_inline int write_ethernet(struct __sk_buff *skb, const struct hop *hop)
{
	struct ethhdr eth = { .h_proto = skb->protocol };

	__builtin_memcpy(eth.h_dest, hop->mac, ETH_ALEN);
	__builtin_memcpy(eth.h_source, hop->local_mac, ETH_ALEN);
	return bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0);
}

SEC("tc")
int probe(struct __sk_buff *skb)
{
	__u32 index = skb->mark & PROBE_INDEX;
	const struct backend *found = bpf_map_lookup_elem(&backends, &index);
	const struct service *service;
	struct backend b;
	enum mode mode;

	if ((skb->mark & ~PROBE_INDEX) != probe_mark)
		return TC_ACT_SHOT; /* what the kernel itself sends by every device */
	if (!found)
		return TC_ACT_SHOT;
	b = *found;
	service = service_at(b.service);
	if (!(b.flags & BACKEND_USED) || !b.hop.ifindex || !service)
		return TC_ACT_SHOT;
	mode = service->mode;
	if (mode == MODE_NAT)
		return TC_ACT_SHOT;
	if (mode != MODE_L2 && write_outer(skb, &b, mode == MODE_GUE))
		return TC_ACT_SHOT;
	if (write_ethernet(skb, &b.hop) || push_tags(skb, &b.hop))
		return TC_ACT_SHOT;
	return bpf_redirect(b.hop.ifindex, 0);
}
