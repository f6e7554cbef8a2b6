/* The load balancer: an XDP program that sends every packet for a service to one
 * of its backends. docs/architecture.md draws the way of a packet through it.
 */
#include "error.h"
#include "forward.h"
#include "icmp.h"
#include "nat.h"
#include "service.h"

char __license[] SEC("license") = "Dual MIT/GPL";

always_inline int to_backend4(struct xdp_md *ctx, const struct packet *p,
			      const struct service *service, const struct tuple4 *t)
{
	const struct iphdr *ip = at(ctx, p->l3);
	__u32 length = frame_length(ctx), hash = hash4(t);
	struct inner in = { .protocol = IPPROTO_IPIP, .length = p->length };
	struct choice c = {};
	struct hop hop;
	int result;

	if ((void *)(ip + 1) > data_end(ctx))
		return pass(PASS_MALFORMED);
	in.tos = ip->tos;
	if (choose(&c, service, p, bpf_map_lookup_elem(&flows4, t), hash))
		return drop(DROP_NO_BACKEND);
	hop = c.backend->hop;
	if (!hop.ifindex)
		return drop(DROP_NEXT_HOP_UNRESOLVED);
	if (!fits(p, &hop, outer_length(service->mode, c.backend)))
		return too_big4(ctx, p,
				hop.mtu - outer_length(service->mode, c.backend));
	if (service->mode == MODE_NAT) {
		result = nat4(ctx, p, &c, &hop, t, hash);
	} else {
		if (!c.flow) {
			struct flow4 flow = {};

			flow.head.backend = c.index;
			flow.head.generation = c.backend->generation;
			bpf_map_update_elem(&flows4, t, &flow, BPF_ANY);
		}
		result = send_whole(ctx, p, &c, &hop, service->mode, &in, hash);
	}
	if (result != FORWARD)
		return drop(result);
	return finish(ctx, &hop, c.index, length, !c.flow);
}

always_inline int to_backend6(struct xdp_md *ctx, const struct packet *p,
			      const struct service *service, const struct tuple6 *t)
{
	const struct ipv6hdr *ip = at(ctx, p->l3);
	__u32 length = frame_length(ctx), hash = hash6(t);
	struct inner in = { .protocol = IPPROTO_IPV6, .length = p->length };
	struct choice c = {};
	struct hop hop;
	int result;

	if ((void *)(ip + 1) > data_end(ctx))
		return pass(PASS_MALFORMED);
	in.tos = bpf_ntohl(*(const __be32 *)ip) >> 20;
	if (choose(&c, service, p, bpf_map_lookup_elem(&flows6, t), hash))
		return drop(DROP_NO_BACKEND);
	hop = c.backend->hop;
	if (!hop.ifindex)
		return drop(DROP_NEXT_HOP_UNRESOLVED);
	if (!fits(p, &hop, outer_length(service->mode, c.backend)))
		return too_big6(ctx, p,
				hop.mtu - outer_length(service->mode, c.backend));
	if (service->mode == MODE_NAT) {
		result = nat6(ctx, p, &c, &hop, t, hash);
	} else {
		if (!c.flow) {
			struct flow6 flow = {};

			flow.head.backend = c.index;
			flow.head.generation = c.backend->generation;
			bpf_map_update_elem(&flows6, t, &flow, BPF_ANY);
		}
		result = send_whole(ctx, p, &c, &hop, service->mode, &in, hash);
	}
	if (result != FORWARD)
		return drop(result);
	return finish(ctx, &hop, c.index, length, !c.flow);
}

/* An ICMP error goes to the backend whose packet it quotes, or, when the packet
 * went through nat to a backend, to its client.
 */
always_inline int error4(struct xdp_md *ctx, struct packet *p)
{
	const struct iphdr *ip = at(ctx, p->l3);
	struct inner in = { .protocol = IPPROTO_IPIP };
	__u32 length = frame_length(ctx), hash;
	struct tuple4 t = {};
	int result = parse_quote4(ctx, p, &t);
	struct service *service;
	struct choice c = {};
	struct hop hop;

	if (result != PARSED || (void *)(ip + 1) > data_end(ctx))
		return pass(result);
	if (is_nat_port(t.ports.destination)) {
		struct reply4 *reply = bpf_map_lookup_elem(&replies4, &t);

		if (reply && serving(reply->head.backend, reply->head.generation)) {
			hop = reply->head.hop;
			result =
			    error_to_client4(ctx, p, &hop, reply, t.ports.protocol);
			if (result != FORWARD)
				return drop(result);
			return finish_reply(ctx, &hop, reply->head.backend);
		}
	}
	service = find_service4(&t);
	if (!service)
		return pass(PASS_NO_SERVICE);
	hash = hash4(&t);
	if (choose(&c, service, p, bpf_map_lookup_elem(&flows4, &t), hash))
		return drop(DROP_NO_BACKEND);
	hop = c.backend->hop;
	if (!hop.ifindex)
		return drop(DROP_NEXT_HOP_UNRESOLVED);
	if (service->mode == MODE_NAT) {
		if (!c.flow)
			return pass(PASS_NO_FLOW);
		result = error_to_backend4(ctx, p, &c, &hop, &t);
	} else {
		in.length = p->length;
		in.tos = ip->tos;
		result = send_whole(ctx, p, &c, &hop, service->mode, &in, hash);
	}
	if (result != FORWARD)
		return drop(result);
	return finish(ctx, &hop, c.index, length, 0);
}

always_inline int icmp4(struct xdp_md *ctx, struct packet *p)
{
	const struct iphdr *ip = at(ctx, p->l3);
	const struct icmp *icmp = (void *)(ip + 1);

	if ((void *)(icmp + 1) > data_end(ctx))
		return pass(PASS_MALFORMED);
	return icmp->type == ICMP4_ECHO ? echo4(ctx, p) : error4(ctx, p);
}

always_inline int balance4(struct xdp_md *ctx, struct packet *p)
{
	struct tuple4 t = {};
	int result = parse4(ctx, p, &t);
	struct service *service;

	if (result == PASS_NO_SERVICE && t.ports.protocol == IPPROTO_ICMP)
		return icmp4(ctx, p);
	if (result != PARSED)
		return pass(result);
	if (is_nat_port(t.ports.destination)) {
		struct reply4 *reply = bpf_map_lookup_elem(&replies4, &t);

		if (reply && serving(reply->head.backend, reply->head.generation)) {
			struct hop hop = reply->head.hop;

			result = undo_nat4(ctx, p, &hop, &t, reply);
			if (result != FORWARD)
				return drop(result);
			return finish_reply(ctx, &hop, reply->head.backend);
		}
	}
	service = find_service4(&t);
	return service ? to_backend4(ctx, p, service, &t) : pass(PASS_NO_SERVICE);
}

always_inline int error6(struct xdp_md *ctx, struct packet *p)
{
	const struct ipv6hdr *ip = at(ctx, p->l3);
	struct inner in = { .protocol = IPPROTO_IPV6 };
	__u32 length = frame_length(ctx), hash;
	struct tuple6 t = {};
	int result = parse_quote6(ctx, p, &t);
	struct service *service;
	struct choice c = {};
	struct hop hop;

	if (result != PARSED || (void *)(ip + 1) > data_end(ctx))
		return pass(result);
	if (is_nat_port(t.ports.destination)) {
		struct reply6 *reply = bpf_map_lookup_elem(&replies6, &t);

		if (reply && serving(reply->head.backend, reply->head.generation)) {
			hop = reply->head.hop;
			result =
			    error_to_client6(ctx, p, &hop, reply, t.ports.protocol);
			if (result != FORWARD)
				return drop(result);
			return finish_reply(ctx, &hop, reply->head.backend);
		}
	}
	service = find_service6(&t);
	if (!service)
		return pass(PASS_NO_SERVICE);
	hash = hash6(&t);
	if (choose(&c, service, p, bpf_map_lookup_elem(&flows6, &t), hash))
		return drop(DROP_NO_BACKEND);
	hop = c.backend->hop;
	if (!hop.ifindex)
		return drop(DROP_NEXT_HOP_UNRESOLVED);
	if (service->mode == MODE_NAT) {
		if (!c.flow)
			return pass(PASS_NO_FLOW);
		result = error_to_backend6(ctx, p, &c, &hop, &t);
	} else {
		in.length = p->length;
		in.tos = bpf_ntohl(*(const __be32 *)ip) >> 20;
		result = send_whole(ctx, p, &c, &hop, service->mode, &in, hash);
	}
	if (result != FORWARD)
		return drop(result);
	return finish(ctx, &hop, c.index, length, 0);
}

always_inline int icmp6(struct xdp_md *ctx, struct packet *p)
{
	const struct ipv6hdr *ip = at(ctx, p->l3);
	const struct icmp *icmp = (void *)(ip + 1);

	if ((void *)(icmp + 1) > data_end(ctx))
		return pass(PASS_MALFORMED);
	return icmp->type == ICMP6_ECHO ? echo6(ctx, p) : error6(ctx, p);
}

always_inline int balance6(struct xdp_md *ctx, struct packet *p)
{
	struct tuple6 t = {};
	int result = parse6(ctx, p, &t);
	struct service *service;

	if (result == PASS_NO_SERVICE && t.ports.protocol == IPPROTO_ICMPV6)
		return icmp6(ctx, p);
	if (result != PARSED)
		return pass(result);
	if (is_nat_port(t.ports.destination)) {
		struct reply6 *reply = bpf_map_lookup_elem(&replies6, &t);

		if (reply && serving(reply->head.backend, reply->head.generation)) {
			struct hop hop = reply->head.hop;

			result = undo_nat6(ctx, p, &hop, &t, reply);
			if (result != FORWARD)
				return drop(result);
			return finish_reply(ctx, &hop, reply->head.backend);
		}
	}
	service = find_service6(&t);
	return service ? to_backend6(ctx, p, service, &t) : pass(PASS_NO_SERVICE);
}

SEC("xdp")
int balancer(struct xdp_md *ctx)
{
	struct packet p = {};
	int result = parse_link(ctx, &p);

	if (result != PARSED)
		return pass(result);
	if (p.ethertype == bpf_htons(ETH_P_IP))
		return balance4(ctx, &p);
	if (p.ethertype == bpf_htons(ETH_P_IPV6))
		return balance6(ctx, &p);
	return pass(PASS_NOT_IP);
}
