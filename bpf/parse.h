/* Parsing: from a frame to the tuple of its flow. Nothing is written here. */
#pragma once

#include "frame.h"

/* The flags octet of the TCP header (RFC 9293, section 3.1). */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_FLAGS_OFFSET 13

always_inline int is_syn(const struct packet *p)
{
	return (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

always_inline int is_closing(const struct packet *p)
{
	return p->tcp_flags & (TCP_FIN | TCP_RST);
}

/* More extension headers than this are left to the host's own stack. */
#define MAX_EXTENSIONS 8

/* No IP header or chain of them that is parsed here ends after this offset. */
#define MAX_L4 1024

always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP ||
	       protocol == IPPROTO_SCTP;
}

/* Reads the ports, the flags of TCP and the tag of SCTP, at the offset l4. */
always_inline int parse_ports(const struct xdp_md *ctx, struct packet *p,
			      struct ports *ports)
{
	__u32 offset = opaque(p->l4), end = p->l3 + p->length;
	const __u8 *l4;

	if (offset > MAX_L4)
		return PASS_EXTENSION_HEADERS;
	l4 = at(ctx, offset);
	if (offset + sizeof(struct udphdr) > end ||
	    (void *)(l4 + sizeof(struct udphdr)) > data_end(ctx))
		return PASS_MALFORMED;
	ports->source = *(__be16 *)l4;
	ports->destination = *(__be16 *)(l4 + 2);
	if (ports->protocol == IPPROTO_UDP)
		return NEXT;
	if (offset + sizeof(struct sctp) > end ||
	    (void *)(l4 + sizeof(struct sctp)) > data_end(ctx))
		return PASS_MALFORMED;
	if (ports->protocol == IPPROTO_SCTP) {
		p->tag = ((struct sctp *)l4)->tag;
		return NEXT;
	}
	if (offset + sizeof(struct tcphdr) > end ||
	    (void *)(l4 + sizeof(struct tcphdr)) > data_end(ctx))
		return PASS_MALFORMED;
	p->tcp_flags = l4[TCP_FLAGS_OFFSET];
	return NEXT;
}

always_inline int parse4(const struct xdp_md *ctx, struct packet *p, struct tuple4 *t)
{
	const struct iphdr *ip = at(ctx, p->l3);

	if ((void *)(ip + 1) > data_end(ctx) || ip->version != 4 || ip->ihl < 5)
		return PASS_MALFORMED;
	p->l4 = p->l3 + ip->ihl * 4;
	p->length = bpf_ntohs(ip->tot_len);
	if (p->l3 + p->length < p->l4 || p->l3 + p->length > p->frame)
		return PASS_MALFORMED;
	t->ports.protocol = ip->protocol;
	if (!has_ports(ip->protocol))
		return PASS_NO_SERVICE;
	if (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS))
		p->fragment = FIRST_FRAGMENT;
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET))
		p->fragment = LATER_FRAGMENT;
	p->id = ip->id;
	t->source = ip->saddr;
	t->destination = ip->daddr;
	return p->fragment == LATER_FRAGMENT ? NEXT : parse_ports(ctx, p, &t->ports);
}

/* The IPv6 extension headers that may come before ports. */
always_inline int is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_ROUTING || next == IPPROTO_AH ||
	       next == IPPROTO_FRAGMENT;
}

/* A fragment header is followed by no header when the fragment is a later one. */
always_inline int is_later(const struct extension *fragment)
{
	return (fragment->type << 8 | fragment->segments_left) & IPV6_FRAGMENT_OFFSET;
}

/* Walks the extension headers (RFC 8200, section 4.1) that begin at offset with
 * the type next. Returns the offset of the fragment header, 0 without one,
 * << 32 | the transport header's protocol << 16 | its offset, or minus the enum
 * reason to pass the packet for; a routing header with segments left is for the
 * host. A function of its own, so that the verifier walks the loop once and not
 * once for every way to get here.
 */
__noinline long find_transport(struct xdp_md *ctx, __u32 offset, __u8 next)
{
	__u64 fragment = 0;

	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		const struct extension *e;

		if (has_ports(next))
			return fragment << 32 | next << 16 | offset;
		if (!is_extension(next))
			return -(fragment ? PASS_FRAGMENT : PASS_NO_SERVICE);
		if (offset > MAX_L4)
			return -PASS_EXTENSION_HEADERS;
		e = at(ctx, offset);
		if ((void *)(e + 1) > data_end(ctx))
			return -PASS_MALFORMED;
		if (next == IPPROTO_ROUTING && e->segments_left)
			return -PASS_EXTENSION_HEADERS;
		if (next == IPPROTO_FRAGMENT) {
			if (fragment)
				return -PASS_EXTENSION_HEADERS;
			fragment = offset;
			if (is_later(e) &&
			    (has_ports(e->next) || is_extension(e->next)))
				return fragment << 32 | e->next << 16 | offset;
			offset += sizeof(*e);
		} else if (next == IPPROTO_AH) {
			offset += (e->length + 2) * 4;
		} else {
			offset += (e->length + 1) * 8;
		}
		next = e->next;
	}
	return -PASS_EXTENSION_HEADERS;
}

/* Notes what the fragment header at offset says. One that says first and last is
 * of a whole packet (RFC 6946).
 */
always_inline int parse_fragment6(const struct xdp_md *ctx, struct packet *p,
				  __u32 offset)
{
	const struct extension *e;

	if (offset > MAX_L4)
		return PASS_EXTENSION_HEADERS;
	e = at(ctx, offset);
	if ((void *)(e + 1) > data_end(ctx))
		return PASS_MALFORMED;
	p->id = e->data;
	if (is_later(e))
		p->fragment = LATER_FRAGMENT;
	else if (e->segments_left & IPV6_MORE_FRAGMENTS)
		p->fragment = FIRST_FRAGMENT;
	return NEXT;
}

always_inline int parse6(struct xdp_md *ctx, struct packet *p, struct tuple6 *t)
{
	const struct ipv6hdr *ip = at(ctx, p->l3);
	int result = NEXT;
	long transport;

	if ((void *)(ip + 1) > data_end(ctx) || ip->version != 6)
		return PASS_MALFORMED;
	p->length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (p->l3 + p->length > p->frame)
		return PASS_MALFORMED;
	__builtin_memcpy(t->source, &ip->saddr, sizeof(t->source));
	__builtin_memcpy(t->destination, &ip->daddr, sizeof(t->destination));
	t->ports.protocol = ip->nexthdr;
	if (has_ports(ip->nexthdr)) { /* nearly always: spares the call */
		p->l4 = p->l3 + sizeof(*ip);
		return parse_ports(ctx, p, &t->ports);
	}
	transport = find_transport(ctx, p->l3 + sizeof(*ip), ip->nexthdr);
	if (transport < 0)
		return -transport;
	t->ports.protocol = transport >> 16;
	p->l4 = transport;
	if (transport >> 32)
		result = parse_fragment6(ctx, p, transport >> 32);
	if (result != NEXT || p->fragment == LATER_FRAGMENT)
		return result;
	return parse_ports(ctx, p, &t->ports);
}
