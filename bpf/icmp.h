/* What Sluice says itself: answers to echo requests for a service's address, and
 * errors for packets that are too big for the way to their backend, so that
 * path MTU discovery works (RFC 1191, RFC 8201).
 */
#pragma once

#include "checksum.h"
#include "clock.h"
#include "service.h"

/* How much of a packet an error quotes: its IP header, ports, and as many
 * extension headers as one meets.
 */
#define QUOTE 128

/* Errors that a CPU may send in a tick (RFC 1812, section 4.3.2.8; RFC 4443,
 * section 2.4).
 */
#define ERRORS_PER_TICK 1000

struct error_budget {
	__u32 tick;
	__u32 sent;
};

MAP(error_budget, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct error_budget, 0);

always_inline int may_send_error(void)
{
	__u32 zero = 0, now = tick();
	struct error_budget *budget = bpf_map_lookup_elem(&error_budget, &zero);

	if (!budget)
		return 0;
	if (budget->tick != now) {
		budget->tick = now;
		budget->sent = 0;
	}
	return budget->sent++ < ERRORS_PER_TICK;
}

/* The frame goes back to where it came from. */
always_inline void turn_round(const struct xdp_md *ctx)
{
	struct ethhdr *eth = at(ctx, 0);
	__u8 mac[ETH_ALEN];

	if ((void *)(eth + 1) > data_end(ctx))
		return;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

/* Answers an echo request (RFC 792); what is none passes. */
always_inline int echo4(const struct xdp_md *ctx, const struct packet *p)
{
	struct iphdr *ip = at(ctx, p->l3);
	struct icmp *icmp = (void *)(ip + 1);
	__be32 source;
	__be16 old;

	if ((void *)(icmp + 1) > data_end(ctx) || ip->ihl != 5)
		return PASS_NO_SERVICE;
	if (icmp->type != ICMP4_ECHO || icmp->code || !is_service4(ip->daddr))
		return PASS_NO_SERVICE;
	if (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return PASS_FRAGMENT;
	old = *(__be16 *)icmp;
	icmp->type = ICMP4_ECHO_REPLY;
	update(&icmp->check, replace16(old, *(__be16 *)icmp));
	source = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = source;
	old = *(__be16 *)&ip->ttl;
	ip->ttl = OUTER_TTL;
	update(&ip->check, replace16(old, *(__be16 *)&ip->ttl));
	turn_round(ctx);
	return ANSWER_ECHO;
}

/* Answers an echo request (RFC 4443, section 4); what is none passes. */
always_inline int echo6(const struct xdp_md *ctx, const struct packet *p)
{
	struct ipv6hdr *ip = at(ctx, p->l3);
	struct icmp *icmp = (void *)(ip + 1);
	struct in6_addr source;
	__be16 old;

	if ((void *)(icmp + 1) > data_end(ctx) || ip->nexthdr != IPPROTO_ICMPV6)
		return PASS_NO_SERVICE;
	if (icmp->type != ICMP6_ECHO || icmp->code ||
	    !is_service6(ip->daddr.in6_u.u6_addr32))
		return PASS_NO_SERVICE;
	old = *(__be16 *)icmp;
	icmp->type = ICMP6_ECHO_REPLY;
	update(&icmp->check, replace16(old, *(__be16 *)icmp));
	source = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = source;
	ip->hop_limit = OUTER_TTL;
	turn_round(ctx);
	return ANSWER_ECHO;
}

/* Cuts the packet to what an error quotes, and makes room for `headers` bytes
 * before it, behind the link header, which is turned round. Returns -1 without
 * room.
 */
always_inline int make_room(struct xdp_md *ctx, const struct packet *p, __u32 headers)
{
	__u8 link[sizeof(struct ethhdr) + 2 * sizeof(struct vlan_tag)];
	__u32 length = p->l3;

	if (length < sizeof(struct ethhdr) || length > sizeof(link))
		return -1;
	if (bpf_xdp_load_bytes(ctx, 0, link, sizeof(link)))
		return -1;
	if (bpf_xdp_adjust_tail(ctx, (int)(length + QUOTE) - (int)frame_length(ctx)))
		return -1;
	if (bpf_xdp_adjust_head(ctx, -(int)headers))
		return -1;
	if (bpf_xdp_store_bytes(ctx, 0, link, length))
		return -1;
	turn_round(ctx);
	return 0;
}

/* Whether errors may be sent to a source: it must be one host (RFC 1122, section
 * 3.2.2), and not of class E.
 */
always_inline int is_host4(__be32 source)
{
	__u8 first = *(__u8 *)&source;

	return first && first != 127 && first < 224;
}

/* The same (RFC 4443, section 2.4). */
always_inline int is_host6(const struct in6_addr *source)
{
	const __be32 *word = source->in6_u.u6_addr32;

	return *(const __u8 *)source != 0xff && (word[0] | word[1] | word[2] | word[3]);
}

/* Tells the sender of an IPv4 packet that it must keep to p->hop.mtu. One that may be
 * fragmented is not, and dropped, as is a later fragment (RFC 1122, section 3.2.2).
 */
always_inline int too_big4(struct xdp_md *ctx, const struct packet *p)
{
	struct iphdr *ip = at(ctx, p->l3);
	struct icmp *icmp;
	__be32 source, destination;

	if ((void *)(ip + 1) > data_end(ctx) || p->length < QUOTE)
		return DROP_TOO_BIG;
	if (!(ip->frag_off & bpf_htons(IPV4_DONT_FRAGMENT)) ||
	    p->fragment == LATER_FRAGMENT || !is_host4(ip->saddr) || !may_send_error())
		return DROP_TOO_BIG;
	source = ip->saddr;
	destination = ip->daddr;
	if (make_room(ctx, p, sizeof(*ip) + sizeof(*icmp)))
		return DROP_NO_HEADROOM;
	ip = at(ctx, p->l3);
	icmp = (void *)(ip + 1);
	if ((void *)(icmp + 1) + QUOTE > data_end(ctx))
		return DROP_NO_HEADROOM;
	*ip = (struct iphdr) {
		.version = 4,
		.ihl = sizeof(*ip) / 4,
		.tot_len = bpf_htons(sizeof(*ip) + sizeof(*icmp) + QUOTE),
		.ttl = OUTER_TTL,
		.protocol = IPPROTO_ICMP,
		.saddr = destination,
		.daddr = source,
	};
	ip->check = header_checksum(ip);
	*icmp = (struct icmp) {
		.type = ICMP4_UNREACHABLE,
		.code = ICMP4_FRAGMENTATION_NEEDED,
		.data = bpf_htonl(p->hop.mtu),
	};
	icmp->check =
	    ~fold(bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp) + QUOTE, 0));
	return ANSWER_TOO_BIG;
}

always_inline int too_big6(struct xdp_md *ctx, const struct packet *p)
{
	struct ipv6hdr *ip = at(ctx, p->l3);
	struct icmp *icmp;
	struct in6_addr source, destination;
	__u64 sum;

	if ((void *)(ip + 1) > data_end(ctx) || p->length < QUOTE ||
	    !is_host6(&ip->saddr) || !may_send_error())
		return DROP_TOO_BIG;
	source = ip->saddr;
	destination = ip->daddr;
	if (make_room(ctx, p, sizeof(*ip) + sizeof(*icmp)))
		return DROP_NO_HEADROOM;
	ip = at(ctx, p->l3);
	icmp = (void *)(ip + 1);
	if ((void *)(icmp + 1) + QUOTE > data_end(ctx))
		return DROP_NO_HEADROOM;
	*(__be32 *)ip = bpf_htonl(6U << 28);
	ip->payload_len = bpf_htons(sizeof(*icmp) + QUOTE);
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = OUTER_TTL;
	ip->saddr = destination;
	ip->daddr = source;
	*icmp = (struct icmp) { .type = ICMP6_TOO_BIG, .data = bpf_htonl(p->hop.mtu) };
	/* The pseudo header (RFC 8200, section 8.1): addresses, length, protocol. */
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&ip->saddr, 2 * sizeof(ip->saddr), 0);
	sum += bpf_htonl(sizeof(*icmp) + QUOTE) + (__u64)bpf_htonl(IPPROTO_ICMPV6);
	sum += (__u32)bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp) + QUOTE, 0);
	icmp->check = ~fold(sum);
	return ANSWER_TOO_BIG;
}
