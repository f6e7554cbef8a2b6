/* What benchmarks need beside the balancer: traffic, made by BPF_PROG_TEST_RUN with
 * live frames (Documentation/bpf/bpf_prog_run.rst), a sink for it, and two programs to
 * compare with. dataplane/generator loads them.
 */
#include "checksum.h"
#include "frame.h"
#include "parse.h"

char __license[] SEC("license") = "Dual MIT/GPL";

/* Lengths of IP packets, by turns: enough for seven small, four medium and one large.
 */
#define LENGTHS 12

/* What the traffic consists of. Addresses and the port are in network byte order, those
 * of IPv4 in the first word.
 */
struct pattern {
	__u8 mac[6]; /* of the other end */
	__u8 local_mac[6];
	__be32 destination[4];
	__be32 source[4]; /* of the first flow; each further one has the next */
	__be16 port;	  /* of the destination */
	__u8 protocol;	  /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 tcp_flags;
	__u8 ipv6;
	__u8 pad;
	__u16 lengths[LENGTHS]; /* bytes */
	__u32 flows;
	__u32 stride;	/* from each packet's flow to the next one's, prime to flows */
	__u32 interval; /* ns from packet to packet, 0: as fast as it goes */
};

/* Set when the program is loaded. */
const volatile struct pattern traffic = { .flows = 1 };

/* Where the one that generates is: of these programs only one runs at a time. */
__u32 flow;
__u32 turn;
__u64 sent;
__u64 due; /* when the next packet is to be made, ns; 0 is now */

/* The clock is read for one packet of so many only. */
#define PACKETS_PER_READING 64

/* The first and the latest reading, and the value of sent at each. User space sets the
 * first to 0 to begin anew.
 */
__u64 first_time;
__u64 first_sent;
__u64 last_time;
__u64 last_sent;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} received SEC(".maps");

/* Source ports begin here and are the low bits of the flow's number more. */
#define FIRST_PORT 1024
#define PORT_MASK 0x7fff

/* Steps through the flows, all of them before one comes again, and not by the order of
 * their addresses.
 */
always_inline __u32 next_flow(void)
{
	__u32 now = flow;

	flow = now + traffic.stride;
	if (flow >= traffic.flows)
		flow -= traffic.flows;
	return now;
}

always_inline __u16 next_length(void)
{
	__u32 now = turn;

	turn = now + 1 < LENGTHS ? now + 1 : 0;
	return now < LENGTHS ? traffic.lengths[now] : 0;
}

/* Gives the frame the length that an IP packet takes. What it grows by is zeros
 * (bpf_xdp_adjust_tail in net/core/filter.c).
 */
always_inline int resize(struct xdp_md *ctx, __u32 length)
{
	__u32 frame = sizeof(struct ethhdr) + length;
	int delta;

	if (frame < ETH_ZLEN)
		frame = ETH_ZLEN;
	delta = frame - frame_length(ctx);
	return delta ? bpf_xdp_adjust_tail(ctx, delta) : 0;
}

/* The sum over so many bytes, which are even. */
always_inline __u64 sum_of(const void *data, __u32 length)
{
	const __be16 *word = data;
	__u64 sum = 0;

	for (__u32 i = 0; i < length / 2; i++)
		sum += word[i];
	return sum;
}

always_inline void write_ethernet(struct ethhdr *eth, __u16 ethertype)
{
	for (int i = 0; i < ETH_ALEN; i++) {
		eth->h_dest[i] = traffic.mac[i];
		eth->h_source[i] = traffic.local_mac[i];
	}
	eth->h_proto = bpf_htons(ethertype);
}

/* Writes the link and IP headers. Returns the sum of the pseudo header (RFC 9293,
 * section 3.1) but for the length, 0 when the frame is too short.
 */
always_inline __u64 write4(struct xdp_md *ctx, __u32 number, __u16 length)
{
	struct ethhdr *eth = at(ctx, 0);
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > data_end(ctx))
		return 0;
	write_ethernet(eth, ETH_P_IP);
	*ip = (struct iphdr) {
		.version = 4,
		.ihl = sizeof(*ip) / 4,
		.tot_len = bpf_htons(length),
		.frag_off = bpf_htons(IPV4_DONT_FRAGMENT),
		.ttl = OUTER_TTL,
		.protocol = traffic.protocol,
		.saddr = bpf_htonl(bpf_ntohl(traffic.source[0]) + number),
		.daddr = traffic.destination[0],
	};
	ip->check = header_checksum(ip);
	return sum_of(&ip->saddr, 8) + bpf_htons(traffic.protocol);
}

always_inline __u64 write6(struct xdp_md *ctx, __u32 number, __u16 length)
{
	struct ethhdr *eth = at(ctx, 0);
	struct ipv6hdr *ip = (void *)(eth + 1);
	__be32 *source = (void *)&ip->saddr, *destination = (void *)&ip->daddr;

	if ((void *)(ip + 1) > data_end(ctx))
		return 0;
	write_ethernet(eth, ETH_P_IPV6);
	*(__be32 *)ip = bpf_htonl(6U << 28);
	ip->payload_len = bpf_htons(length - sizeof(*ip));
	ip->nexthdr = traffic.protocol;
	ip->hop_limit = OUTER_TTL;
	for (int i = 0; i < 4; i++) {
		source[i] = traffic.source[i];
		destination[i] = traffic.destination[i];
	}
	source[3] = bpf_htonl(bpf_ntohl(source[3]) + number);
	return sum_of(source, 32) + bpf_htons(traffic.protocol);
}

/* Writes the header of TCP or UDP, with the checksum for data that are zeros; sum is
 * that of the pseudo header.
 */
always_inline int write_tcp(void *l4, const void *end, __be16 source, __u64 sum)
{
	struct tcphdr *tcp = l4;

	if ((void *)(tcp + 1) > end)
		return -1;
	*tcp = (struct tcphdr) {
		.source = source,
		.dest = traffic.port,
		.seq = bpf_htonl(1000),
		.ack_seq = traffic.tcp_flags & TCP_ACK ? bpf_htonl(1) : 0,
		.doff = sizeof(*tcp) / 4,
		.window = bpf_htons(500),
	};
	((__u8 *)tcp)[TCP_FLAGS_OFFSET] = traffic.tcp_flags;
	tcp->check = ~fold(sum + sum_of(tcp, sizeof(*tcp)));
	return 0;
}

always_inline int write_udp(void *l4, const void *end, __be16 source, __u64 sum,
			    __be16 length)
{
	struct udphdr *udp = l4;

	if ((void *)(udp + 1) > end)
		return -1;
	*udp =
	    (struct udphdr) { .source = source, .dest = traffic.port, .len = length };
	udp->check = ~fold(sum + sum_of(udp, sizeof(*udp)));
	if (!udp->check)
		udp->check = 0xffff; /* RFC 768: 0 is none */
	return 0;
}

/* Writes all headers anew, since frames come again with whatever was written into them.
 */
always_inline int write_frame(struct xdp_md *ctx, __u32 number, __u16 length)
{
	__u32 ip = traffic.ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__be16 source = bpf_htons(FIRST_PORT + (number & PORT_MASK));
	__be16 l4_length = bpf_htons(length - ip);
	__u64 sum;
	void *l4;

	sum = traffic.ipv6 ? write6(ctx, number, length) : write4(ctx, number, length);
	if (!sum)
		return -1;
	sum += l4_length;
	l4 = at(ctx, sizeof(struct ethhdr) + ip);
	if (traffic.protocol == IPPROTO_UDP)
		return write_udp(l4, data_end(ctx), source, sum, l4_length);
	return write_tcp(l4, data_end(ctx), source, sum);
}

always_inline void read_clock(void)
{
	if (sent % PACKETS_PER_READING)
		return;
	last_time = bpf_ktime_get_ns();
	last_sent = sent;
	if (first_time)
		return;
	first_time = last_time;
	first_sent = last_sent;
}

static long is_due(__u32 index, void *unused)
{
	return bpf_ktime_get_ns() >= due;
}

/* More rounds of is_due than there are in a millisecond, which is the longest interval.
 */
#define PATIENCE (1 << 20)

/* Holds the rate. It does not sleep: nobody wakes a program that does. */
always_inline void wait(void)
{
	if (!due)
		due = bpf_ktime_get_ns();
	bpf_loop(PATIENCE, is_due, NULL, 0);
	due += traffic.interval;
}

/* Makes the next frame and sends it out of the interface that it is run on. */
SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u16 length = next_length();

	if (resize(ctx, length) || write_frame(ctx, next_flow(), length))
		return XDP_ABORTED;
	if (traffic.interval)
		wait();
	read_clock();
	sent++;
	return XDP_TX;
}

/* What hosts say to all of themselves, when an interface comes up for example, is none
 * of what was sent.
 */
SEC("xdp")
int sink(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&received, &zero);

	if (count && !is_for_many(ctx))
		(*count)++;
	return XDP_DROP;
}

/* The first floor: frames go back as they came. What the kernel says that it takes is
 * what measuring costs.
 */
SEC("xdp")
int empty(struct xdp_md *ctx)
{
	return XDP_TX;
}

/* The second floor: every frame goes back in the same IPv4 header, from 192.0.2.1 to
 * 192.0.2.2 (RFC 5737).
 */
SEC("xdp")
int encapsulate(struct xdp_md *ctx)
{
	__u16 length = frame_length(ctx) - sizeof(struct ethhdr);
	struct ethhdr *eth;
	struct iphdr *ip;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return XDP_DROP;
	eth = at(ctx, 0);
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > data_end(ctx))
		return XDP_DROP;
	*eth = (struct ethhdr) {
		.h_dest = { 2, 0, 0, 0, 0, 2 },
		.h_source = { 2, 0, 0, 0, 0, 1 },
		.h_proto = bpf_htons(ETH_P_IP),
	};
	*ip = (struct iphdr) {
		.version = 4,
		.ihl = sizeof(*ip) / 4,
		.tot_len = bpf_htons(sizeof(*ip) + length),
		.frag_off = bpf_htons(IPV4_DONT_FRAGMENT),
		.ttl = OUTER_TTL,
		.protocol = traffic.ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP,
		.saddr = bpf_htonl(0xc0000201),
		.daddr = bpf_htonl(0xc0000202),
	};
	ip->check = header_checksum(ip);
	return XDP_TX;
}
