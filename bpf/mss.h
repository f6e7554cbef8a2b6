/* Clamping the maximum segment size that SYNs announce (RFC 9293, section 3.7.1),
 * for where errors about packets too big do not arrive.
 */
#pragma once

#include "checksum.h"
#include "parse.h"
#include "service.h"

#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define MSS_LENGTH 4

/* The most bytes that a TCP header has. */
#define MAX_TCP 60

/* Lowers the MSS option at an offset of the TCP header. A word at an odd offset
 * counts in the sum with its bytes swapped (RFC 1071, section 2).
 */
always_inline void lower_mss(struct tcphdr *tcp, __be16 *mss, __u32 offset,
			     __u16 highest)
{
	__be16 old = *mss, new = bpf_htons(highest);

	if (bpf_ntohs(old) <= highest)
		return;
	*mss = new;
	if (offset % 2)
		update(&tcp->check, replace16(bpf_htons(old), bpf_htons(new)));
	else
		update(&tcp->check, replace16(old, new));
}

/* The bytes to the option behind one, 0 for one that is none. Without branches, so
 * that the verifier walks one way for all kinds of options.
 */
always_inline __u32 option_length(const __u8 *option)
{
	__u64 nop = (opaque(option[0] ^ TCP_OPTION_NOP) - 1) >> 63;
	__u64 length = nop + (1 - nop) * option[1];

	return length + nop < 2 ? 0 : length;
}

/* Lowers the MSS option of the TCP header at l4. A function of its own, so that
 * the verifier walks the loop once. Returns 0.
 */
__noinline int clamp_mss(struct xdp_md *ctx, __u32 l4, __u16 highest)
{
	__u32 offset = sizeof(struct tcphdr), end, length;
	struct tcphdr *tcp;

	if (l4 > MAX_L4)
		return 0;
	tcp = at(ctx, l4);
	if ((void *)(tcp + 1) > data_end(ctx))
		return 0;
	end = tcp->doff * 4;
	for (int i = 0; i < MAX_TCP - (int)sizeof(*tcp); i++) {
		__u8 *option;

		offset = opaque(offset);
		if (offset > MAX_TCP - MSS_LENGTH || offset + MSS_LENGTH > end)
			return 0;
		option = (void *)tcp + offset;
		if ((void *)(option + MSS_LENGTH) > data_end(ctx) ||
		    option[0] == TCP_OPTION_END)
			return 0;
		length = option_length(option);
		if (option[0] == TCP_OPTION_MSS && length == MSS_LENGTH) {
			lower_mss(tcp, (__be16 *)(option + 2), offset, highest);
			return 0;
		}
		if (!length)
			return 0;
		offset += length;
	}
	return 0;
}

#define IPV4_AND_TCP (sizeof(struct iphdr) + sizeof(struct tcphdr))
#define IPV6_AND_TCP (sizeof(struct ipv6hdr) + sizeof(struct tcphdr))

/* Applies a service's clamp_mss to a SYN: headers is the length of all that comes
 * before the segment's bytes within the MTU.
 */
always_inline void clamp(struct xdp_md *ctx, const struct packet *p,
			 const struct service *s, __u16 mtu, __u32 headers)
{
	__u16 highest = s->clamp_mss;

	if (!highest || !(p->tcp_flags & TCP_SYN))
		return;
	if (highest == CLAMP_MSS_AUTO) {
		if (mtu <= headers)
			return;
		highest = mtu - headers;
	}
	clamp_mss(ctx, p->l4, highest);
}

/* The same for the SYN of a backend in nat mode. */
always_inline void clamp_reply(struct xdp_md *ctx, const struct packet *p,
			       __u32 headers)
{
	__u32 index = p->verdict.backend;
	const struct service *service;
	const struct backend *b;

	if (!(p->tcp_flags & TCP_SYN))
		return;
	b = bpf_map_lookup_elem(&backends, &index);
	service = service_at(p->verdict.service);
	if (b && service)
		clamp(ctx, p, service, b->hop.mtu, headers);
}
