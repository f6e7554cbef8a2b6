/* The load balancer: an XDP program that sends every packet for a service to one
 * of its backends. docs/architecture.md draws the way of a packet through it.
 */
#include "encap.h"
#include "icmp.h"
#include "nat.h"
#include "service.h"

char __license[] SEC("license") = "Dual MIT/GPL";

/* Whether the packet with `outer` more bytes fits the next hop's MTU. */
always_inline int fits(const struct packet *p, const struct hop *hop, __u32 outer)
{
	return !hop->mtu || p->length + outer <= hop->mtu;
}

always_inline int finish(const struct xdp_md *ctx, const struct hop *hop,
			 const struct choice *c, __u32 length)
{
	int action = send(ctx, hop);

	if (action == XDP_DROP)
		return drop(DROP_NO_DEVICE);
	count_packet(c->index, length, !c->flow);
	return action;
}

always_inline int finish_reply(const struct xdp_md *ctx, const struct hop *hop,
			       __u32 backend)
{
	int action = send(ctx, hop);

	if (action == XDP_DROP)
		return drop(DROP_NO_DEVICE);
	count_reply(backend);
	return action;
}

/* l2 and ipip: the packet goes to its backend as it is, perhaps in an outer
 * header.
 */
always_inline int send_whole(struct xdp_md *ctx, const struct packet *p,
			     const struct choice *c, const struct hop *hop, __u8 mode,
			     const struct inner *in, __u32 hash)
{
	if (mode == MODE_L2)
		return write_link(ctx, p->l3, hop, 0, p->ethertype);
	return encapsulate(ctx, p->l3, c->backend, hop, in, hash);
}

always_inline __u32 outer_length(__u8 mode, const struct backend *b)
{
	if (mode != MODE_IPIP)
		return 0;
	return b->flags & BACKEND_IPV6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

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
	return finish(ctx, &hop, &c, length);
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
	return finish(ctx, &hop, &c, length);
}

always_inline int balance4(struct xdp_md *ctx, struct packet *p)
{
	struct tuple4 t = {};
	int result = parse4(ctx, p, &t);
	struct service *service;

	if (result == PASS_NO_SERVICE && t.ports.protocol == IPPROTO_ICMP)
		return echo4(ctx, p);
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

always_inline int balance6(struct xdp_md *ctx, struct packet *p)
{
	struct tuple6 t = {};
	int result = parse6(ctx, p, &t);
	struct service *service;

	if (result == PASS_NO_SERVICE && t.ports.protocol == IPPROTO_ICMPV6)
		return echo6(ctx, p);
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
