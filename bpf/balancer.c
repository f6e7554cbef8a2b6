/* The load balancer: an XDP program that sends every packet for a service to one
 * of its backends. docs/architecture.md draws the way of a packet through it.
 *
 * Functions return the enum reason that a packet ends with, or NEXT.
 */
#include "capture.h"
#include "count.h"
#include "error.h"
#include "forward.h"
#include "fragment.h"
#include "icmp.h"
#include "limit.h"
#include "mss.h"
#include "nat.h"
#include "signal.h"
#include "source.h"

char __license[] SEC("license") = "Dual MIT/GPL";

always_inline int to_backend4(struct xdp_md *ctx, struct packet *p,
			      const struct service *service, const struct tuple4 *t)
{
	struct choice c = { .service = service, .table = service, .hash = hash4(t) };
	int result = find_source4(t, &p->verdict, &c.table);
	__u32 outer;

	if (result == NEXT) {
		c.slot_hash = slot_hash4(service, t, c.hash);
		result = choose_for(ctx, p, &c,
				    is_looked_up(p, &c) ? find_flow4(p, t) : NULL);
	}
	if (result == NEXT && p->new_flow)
		result = limit4(service, p->verdict.service, t);
	if (result != NEXT)
		return result;
	outer = outer_length(service->mode, c.backend);
	if (!fits(p, outer))
		return tell_mtu(p, outer);
	clamp(ctx, p, service, p->hop.mtu, outer + IPV4_AND_TCP);
	mark_timed(p, &c);
	remember_fragment4(p, t);
	count_load(p, &c);
	if (service->mode == MODE_NAT) {
		result = nat4(ctx, p, &c, t);
	} else {
		remember_flow4(p, &c, t);
		result = send_whole4(ctx, p, &c);
	}
	if (result == NEXT && p->timed)
		signal_handshake4(p, &c, t);
	return result == NEXT ? TO_BACKEND : result;
}

always_inline int to_backend6(struct xdp_md *ctx, struct packet *p,
			      const struct service *service, const struct tuple6 *t)
{
	struct choice c = { .service = service, .table = service, .hash = hash6(t) };
	int result = find_source6(t, &p->verdict, &c.table);
	__u32 outer;

	if (result == NEXT) {
		c.slot_hash = slot_hash6(service, t, c.hash);
		result = choose_for(ctx, p, &c,
				    is_looked_up(p, &c) ? find_flow6(p, t) : NULL);
	}
	if (result == NEXT && p->new_flow)
		result = limit6(service, p->verdict.service, t);
	if (result != NEXT)
		return result;
	outer = outer_length(service->mode, c.backend);
	if (!fits(p, outer))
		return tell_mtu(p, outer);
	clamp(ctx, p, service, p->hop.mtu, outer + IPV6_AND_TCP);
	mark_timed(p, &c);
	remember_fragment6(p, t);
	count_load(p, &c);
	if (service->mode == MODE_NAT) {
		result = nat6(ctx, p, &c, t);
	} else {
		remember_flow6(p, &c, t);
		result = send_whole6(ctx, p, &c);
	}
	if (result == NEXT && p->timed)
		signal_handshake6(p, &c, t);
	return result == NEXT ? TO_BACKEND : result;
}

/* A reply from a backend in nat mode goes to its client; what is none goes on. */
always_inline int to_client4(struct xdp_md *ctx, struct packet *p,
			     const struct tuple4 *t)
{
	struct reply4 *reply = find_reply4(p, t);
	int result;

	if (!reply)
		return NEXT;
	if (!fits(p, 0))
		return tell_mtu(p, 0);
	clamp_reply(ctx, p, IPV4_AND_TCP);
	remember_fragment4(p, t);
	result = undo_nat4(ctx, p, t, reply);
	return result == NEXT ? TO_CLIENT : result;
}

always_inline int to_client6(struct xdp_md *ctx, struct packet *p,
			     const struct tuple6 *t)
{
	struct reply6 *reply = find_reply6(p, t);
	int result;

	if (!reply)
		return NEXT;
	if (!fits(p, 0))
		return tell_mtu(p, 0);
	clamp_reply(ctx, p, IPV6_AND_TCP);
	remember_fragment6(p, t);
	result = undo_nat6(ctx, p, t, reply);
	return result == NEXT ? TO_CLIENT : result;
}

/* An ICMP error goes to the backend whose packet it quotes, or, when the packet
 * went through nat to a backend, to its client. Nobody is told of one that is too
 * big (RFC 1122, section 3.2.2; RFC 4443, section 2.4).
 */
always_inline int error4(struct xdp_md *ctx, struct packet *p)
{
	struct tuple4 t = {};
	int result = parse_quote4(ctx, p, &t);
	struct service *service;
	struct choice c = {};
	struct reply4 *reply;

	if (result != NEXT)
		return result;
	reply = find_reply4(p, &t);
	if (reply) {
		if (!fits(p, 0))
			return DROP_TOO_BIG;
		result = error_to_client4(ctx, p, reply, t.ports.protocol);
		return result == NEXT ? TO_CLIENT : result;
	}
	service = find_service4(&t, &p->verdict);
	if (!service)
		return PASS_NO_SERVICE;
	c = (struct choice) { .service = service, .table = service, .hash = hash4(&t) };
	result = find_source4(&t, &p->verdict, &c.table);
	if (result == NEXT) {
		c.slot_hash = slot_hash4(service, &t, c.hash);
		result = choose(p, &c, is_looked_up(p, &c) ? find_flow4(p, &t) : NULL);
	}
	if (result != NEXT)
		return result;
	if (!fits(p, outer_length(service->mode, c.backend)))
		return DROP_TOO_BIG;
	if (service->mode == MODE_NAT)
		result = error_to_backend4(ctx, p, &c, &t);
	else
		result = send_whole4(ctx, p, &c);
	return result == NEXT ? TO_BACKEND : result;
}

always_inline int error6(struct xdp_md *ctx, struct packet *p)
{
	struct tuple6 t = {};
	int result = parse_quote6(ctx, p, &t);
	struct service *service;
	struct choice c = {};
	struct reply6 *reply;

	if (result != NEXT)
		return result;
	reply = find_reply6(p, &t);
	if (reply) {
		if (!fits(p, 0))
			return DROP_TOO_BIG;
		result = error_to_client6(ctx, p, reply, t.ports.protocol);
		return result == NEXT ? TO_CLIENT : result;
	}
	service = find_service6(&t, &p->verdict);
	if (!service)
		return PASS_NO_SERVICE;
	c = (struct choice) { .service = service, .table = service, .hash = hash6(&t) };
	result = find_source6(&t, &p->verdict, &c.table);
	if (result == NEXT) {
		c.slot_hash = slot_hash6(service, &t, c.hash);
		result = choose(p, &c, is_looked_up(p, &c) ? find_flow6(p, &t) : NULL);
	}
	if (result != NEXT)
		return result;
	if (!fits(p, outer_length(service->mode, c.backend)))
		return DROP_TOO_BIG;
	if (service->mode == MODE_NAT)
		result = error_to_backend6(ctx, p, &c, &t);
	else
		result = send_whole6(ctx, p, &c);
	return result == NEXT ? TO_BACKEND : result;
}

/* Whether the packet is long enough for its ICMP header, at an offset. */
always_inline int has_icmp(const struct packet *p, __u32 offset)
{
	return offset + sizeof(struct icmp) <= p->length;
}

always_inline int icmp4(struct xdp_md *ctx, struct packet *p)
{
	const struct iphdr *ip = at(ctx, p->l3);
	const struct icmp *icmp = (void *)(ip + 1);

	if ((void *)(icmp + 1) > data_end(ctx) || !has_icmp(p, sizeof(*ip)))
		return PASS_MALFORMED;
	return icmp->type == ICMP4_ECHO ? echo4(ctx, p) : error4(ctx, p);
}

always_inline int icmp6(struct xdp_md *ctx, struct packet *p)
{
	const struct ipv6hdr *ip = at(ctx, p->l3);
	const struct icmp *icmp = (void *)(ip + 1);

	if ((void *)(icmp + 1) > data_end(ctx) || !has_icmp(p, sizeof(*ip)))
		return PASS_MALFORMED;
	return icmp->type == ICMP6_ECHO ? echo6(ctx, p) : error6(ctx, p);
}

always_inline int balance4(struct xdp_md *ctx, struct packet *p)
{
	struct tuple4 t = {};
	int result = parse4(ctx, p, &t);
	struct service *service;

	if (result == PASS_NO_SERVICE && t.ports.protocol == IPPROTO_ICMP)
		return icmp4(ctx, p);
	if (result == NEXT)
		result = recall_fragment4(p, &t);
	if (result == NEXT)
		result = to_client4(ctx, p, &t);
	if (result == NEXT) {
		service = find_service4(&t, &p->verdict);
		result = service ? to_backend4(ctx, p, service, &t) : PASS_NO_SERVICE;
	}
	return result == TELL_MTU ? too_big4(ctx, p) : result;
}

always_inline int balance6(struct xdp_md *ctx, struct packet *p)
{
	struct tuple6 t = {};
	int result = parse6(ctx, p, &t);
	struct service *service;

	if (result == PASS_NO_SERVICE && t.ports.protocol == IPPROTO_ICMPV6)
		return icmp6(ctx, p);
	if (result == NEXT)
		result = recall_fragment6(p, &t);
	if (result == NEXT)
		result = to_client6(ctx, p, &t);
	if (result == NEXT) {
		service = find_service6(&t, &p->verdict);
		result = service ? to_backend6(ctx, p, service, &t) : PASS_NO_SERVICE;
	}
	return result == TELL_MTU ? too_big6(ctx, p) : result;
}

always_inline int balance(struct xdp_md *ctx, struct packet *p)
{
	int result = parse_link(ctx, p);

	if (result != NEXT)
		return result;
	if (p->ethertype != bpf_htons(ETH_P_IP) &&
	    p->ethertype != bpf_htons(ETH_P_IPV6))
		return PASS_NOT_IP;
	if (is_for_many(ctx))
		return PASS_NO_SERVICE;
	return p->ethertype == bpf_htons(ETH_P_IP) ? balance4(ctx, p)
						   : balance6(ctx, p);
}

/* Does what the reason says, and counts it: the one place where packets end. */
always_inline int finish(struct xdp_md *ctx, struct packet *p, enum reason reason)
{
	int action = XDP_PASS;

	if (reason == TO_BACKEND || reason == TO_CLIENT) {
		action = send(ctx, &p->hop);
		if (action == XDP_DROP)
			reason = DROP_NO_DEVICE;
	} else if (reason >= ANSWER_ECHO) {
		action = XDP_TX;
	} else if (reason >= DROP_NO_BACKEND) {
		action = XDP_DROP;
	}
	p->verdict.reason = reason;
	if (reason == TO_BACKEND)
		count_packet(p);
	else if (reason == TO_CLIENT)
		count_reply(p);
	else
		count_reason(reason);
	return action;
}

always_inline int run(struct xdp_md *ctx, int shown)
{
	struct packet p = { .frame = frame_length(ctx) };
	int action;

	if (shown)
		show_before(ctx);
	action = finish(ctx, &p, balance(ctx, &p));
	if (shown)
		show_after(ctx, &p, action);
	return action;
}

SEC("xdp")
int balancer(struct xdp_md *ctx)
{
	return run(ctx, 0);
}

/* The same for those who watch, see capture.h. */
SEC("xdp")
int shown_balancer(struct xdp_md *ctx)
{
	return run(ctx, 1);
}
