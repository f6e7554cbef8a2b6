/* ICMP errors that quote a packet of a flow go where the packet came from: to
 * the backend that sent it, in every mode, or in nat mode to the client. So path
 * MTU discovery works beyond this host.
 *
 * In nat mode the quoted packet is translated back too, but for the checksum of
 * its TCP or UDP header, which receivers do not look at.
 */
#pragma once

#include "nat.h"

/* Destination unreachable, time exceeded, parameter problem (RFC 792). */
always_inline int is_error4(__u8 type)
{
	return type == ICMP4_UNREACHABLE || type == 11 || type == 12;
}

/* The same and packet too big (RFC 4443). */
always_inline int is_error6(__u8 type)
{
	return type >= 1 && type <= 4;
}

/* Whether an error says that what it quotes cannot be delivered, at whatever size. */
always_inline int is_unreachable4(const struct xdp_md *ctx, const struct packet *p)
{
	const struct icmp *icmp = at(ctx, p->l3 + sizeof(struct iphdr));

	return (void *)(icmp + 1) <= data_end(ctx) && icmp->type == ICMP4_UNREACHABLE &&
	       icmp->code != ICMP4_FRAGMENTATION_NEEDED;
}

always_inline int is_unreachable6(const struct xdp_md *ctx, const struct packet *p)
{
	const struct icmp *icmp = at(ctx, p->l3 + sizeof(struct ipv6hdr));

	return (void *)(icmp + 1) <= data_end(ctx) && icmp->type == ICMP6_UNREACHABLE;
}

/* Whether the packet goes as far as the ports that it quotes. */
always_inline int is_quoted(const struct packet *p)
{
	return p->l4 + 2 * sizeof(__be16) <= p->l3 + p->length;
}

/* Fills in the tuple that an answer to the quoted packet would have, which is
 * the key of its flow, and the offset of its ports.
 */
always_inline int parse_quote4(const struct xdp_md *ctx, struct packet *p,
			       struct tuple4 *answer)
{
	const struct iphdr *ip = at(ctx, p->l3);
	const struct icmp *icmp = (void *)(ip + 1);
	const struct iphdr *quoted = (void *)(icmp + 1);
	const __be16 *ports;

	if ((void *)(quoted + 1) > data_end(ctx) || ip->ihl != 5 || quoted->ihl < 5)
		return PASS_NO_SERVICE;
	if (!is_error4(icmp->type) || !has_ports(quoted->protocol))
		return PASS_NO_SERVICE;
	if (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET) ||
	    quoted->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET))
		return PASS_FRAGMENT;
	p->l4 = p->l3 + sizeof(*ip) + sizeof(*icmp) + quoted->ihl * 4;
	ports = at(ctx, p->l4);
	if ((void *)(ports + 2) > data_end(ctx) || !is_quoted(p))
		return PASS_MALFORMED;
	answer->source = quoted->daddr;
	answer->destination = quoted->saddr;
	answer->ports.source = ports[1];
	answer->ports.destination = ports[0];
	answer->ports.protocol = quoted->protocol;
	return NEXT;
}

always_inline int parse_quote6(struct xdp_md *ctx, struct packet *p,
			       struct tuple6 *answer)
{
	const struct ipv6hdr *ip = at(ctx, p->l3);
	const struct icmp *icmp = (void *)(ip + 1);
	const struct ipv6hdr *quoted = (void *)(icmp + 1);
	const __be16 *ports;
	long transport;

	if ((void *)(quoted + 1) > data_end(ctx) || ip->nexthdr != IPPROTO_ICMPV6 ||
	    !is_error6(icmp->type))
		return PASS_NO_SERVICE;
	__builtin_memcpy(answer->source, &quoted->daddr, sizeof(answer->source));
	__builtin_memcpy(answer->destination, &quoted->saddr,
			 sizeof(answer->destination));
	transport = find_transport(ctx, p->l3 + 2 * sizeof(*ip) + sizeof(*icmp),
				   quoted->nexthdr);
	if (transport < 0)
		return -transport;
	answer->ports.protocol = transport >> 16;
	p->l4 = transport;
	if (transport >> 32 && parse_fragment6(ctx, p, transport >> 32) != NEXT)
		return PASS_FRAGMENT;
	if (p->fragment == LATER_FRAGMENT)
		return PASS_FRAGMENT;
	if (p->l4 > MAX_L4)
		return PASS_EXTENSION_HEADERS;
	ports = at(ctx, p->l4);
	if ((void *)(ports + 2) > data_end(ctx) || !is_quoted(p))
		return PASS_MALFORMED;
	answer->ports.source = ports[1];
	answer->ports.destination = ports[0];
	return NEXT;
}

/* Replaces the quoted ports. Returns what that adds to the checksum of ICMP. */
always_inline __u64 requote_ports(const struct xdp_md *ctx, const struct packet *p,
				  const struct ports *is)
{
	__u32 offset = opaque(p->l4);
	__be16 *ports;
	__u64 added;

	if (offset > MAX_L4)
		return 0;
	ports = at(ctx, offset);
	if ((void *)(ports + 2) > data_end(ctx))
		return 0;
	added = replace16(ports[0], is->source) + replace16(ports[1], is->destination);
	ports[0] = is->source;
	ports[1] = is->destination;
	return added;
}

/* Makes the quoted packet one with the tuple is, and sends the error to its
 * sender. The addresses and the checksum of the quoted IPv4 header change by
 * sums that cancel out, so only the ports change the checksum of ICMP.
 */
always_inline int requote4(const struct xdp_md *ctx, const struct packet *p,
			   const struct tuple4 *is)
{
	struct iphdr *ip = at(ctx, p->l3);
	struct icmp *icmp = (void *)(ip + 1);
	struct iphdr *quoted = (void *)(icmp + 1);
	__be16 old;

	if ((void *)(quoted + 1) > data_end(ctx) || ip->ttl <= 1)
		return DROP_TTL_EXPIRED;
	update(&quoted->check, replace32(quoted->saddr, is->source) +
				   replace32(quoted->daddr, is->destination));
	quoted->saddr = is->source;
	quoted->daddr = is->destination;
	update(&icmp->check, requote_ports(ctx, p, &is->ports));
	old = *(__be16 *)&ip->ttl;
	ip->ttl--;
	update(&ip->check,
	       replace32(ip->daddr, is->source) + replace16(old, *(__be16 *)&ip->ttl));
	ip->daddr = is->source;
	return NEXT;
}

always_inline int requote6(const struct xdp_md *ctx, const struct packet *p,
			   const struct tuple6 *is)
{
	struct ipv6hdr *ip = at(ctx, p->l3);
	struct icmp *icmp = (void *)(ip + 1);
	struct ipv6hdr *quoted = (void *)(icmp + 1);
	__u64 added;

	if ((void *)(quoted + 1) > data_end(ctx) || ip->hop_limit <= 1)
		return DROP_TTL_EXPIRED;
	added = replace128((const __be32 *)&quoted->saddr, is->source) +
		replace128((const __be32 *)&quoted->daddr, is->destination) +
		replace128((const __be32 *)&ip->daddr, is->source);
	__builtin_memcpy(&quoted->saddr, is->source, sizeof(quoted->saddr));
	__builtin_memcpy(&quoted->daddr, is->destination, sizeof(quoted->daddr));
	__builtin_memcpy(&ip->daddr, is->source, sizeof(ip->daddr));
	update(&icmp->check, added + requote_ports(ctx, p, &is->ports));
	ip->hop_limit--;
	return NEXT;
}

/* Has the service send the error: the client's network may drop what comes from that
 * of the backends (RFC 5508, section 4.2.2).
 */
always_inline int speak4(const struct xdp_md *ctx, const struct packet *p,
			 __be32 service)
{
	struct iphdr *ip = at(ctx, p->l3);

	if ((void *)(ip + 1) > data_end(ctx))
		return DROP_NO_HEADROOM;
	update(&ip->check, replace32(ip->saddr, service));
	ip->saddr = service;
	return NEXT;
}

always_inline int speak6(const struct xdp_md *ctx, const struct packet *p,
			 const __be32 *service)
{
	struct ipv6hdr *ip = at(ctx, p->l3);
	struct icmp *icmp = (void *)(ip + 1);

	if ((void *)(icmp + 1) > data_end(ctx))
		return DROP_NO_HEADROOM;
	update(&icmp->check, replace128((const __be32 *)&ip->saddr, service));
	__builtin_memcpy(&ip->saddr, service, sizeof(ip->saddr));
	return NEXT;
}

/* An error about what a client sent through nat, as the client knows it. */
always_inline int error_to_client4(struct xdp_md *ctx, const struct packet *p,
				   const struct reply4 *reply, __u8 protocol)
{
	struct tuple4 is = {
		.ports.source = reply->head.client_port,
		.ports.destination = reply->head.service_port,
		.ports.protocol = protocol,
		.source = reply->client,
		.destination = reply->service,
	};
	int result;

	if (is_unreachable4(ctx, p))
		signal_trouble4(&is, &reply->head, SIGNAL_UNREACHABLE);
	result = requote4(ctx, p, &is);
	if (result == NEXT)
		result = speak4(ctx, p, reply->service);
	return result == NEXT ? write_link(ctx, p, 0, p->ethertype) : result;
}

always_inline int error_to_client6(struct xdp_md *ctx, const struct packet *p,
				   const struct reply6 *reply, __u8 protocol)
{
	struct tuple6 is = {
		.ports.source = reply->head.client_port,
		.ports.destination = reply->head.service_port,
		.ports.protocol = protocol,
	};
	int result;

	__builtin_memcpy(is.source, reply->client, sizeof(is.source));
	__builtin_memcpy(is.destination, reply->service, sizeof(is.destination));
	if (is_unreachable6(ctx, p))
		signal_trouble6(&is, &reply->head, SIGNAL_UNREACHABLE);
	result = requote6(ctx, p, &is);
	if (result == NEXT)
		result = speak6(ctx, p, reply->service);
	return result == NEXT ? write_link(ctx, p, 0, p->ethertype) : result;
}

/* An error about what a backend sent through nat, as the backend knows it. Linux 6.1
 * sees that there is a flow only where it is looked at right before its use.
 */
always_inline int error_to_backend4(struct xdp_md *ctx, const struct packet *p,
				    const struct choice *c, const struct tuple4 *t)
{
	const struct flow4 *flow = (const struct flow4 *)opaque((__u64)c->flow);
	const struct backend *b = c->backend;
	struct tuple4 is = {
		.ports.source = b->port ? b->port : t->ports.destination,
		.ports.protocol = t->ports.protocol,
		.source = b->address[0],
	};
	int result;

	if (!flow)
		return PASS_NO_FLOW;
	is.ports.destination = flow->head.nat_port;
	is.destination = flow->source;
	result = requote4(ctx, p, &is);
	return result == NEXT ? write_link(ctx, p, 0, p->ethertype) : result;
}

always_inline int error_to_backend6(struct xdp_md *ctx, const struct packet *p,
				    const struct choice *c, const struct tuple6 *t)
{
	const struct flow6 *flow = (const struct flow6 *)opaque((__u64)c->flow);
	const struct backend *b = c->backend;
	struct tuple6 is = {
		.ports.source = b->port ? b->port : t->ports.destination,
		.ports.protocol = t->ports.protocol,
	};
	int result;

	if (!flow)
		return PASS_NO_FLOW;
	__builtin_memcpy(is.source, b->address, sizeof(is.source));
	is.ports.destination = flow->head.nat_port;
	__builtin_memcpy(is.destination, flow->source, sizeof(is.destination));
	result = requote6(ctx, p, &is);
	return result == NEXT ? write_link(ctx, p, 0, p->ethertype) : result;
}
