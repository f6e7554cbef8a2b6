/* Protocol headers and constants that the kernel's user-space headers leave out. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define always_inline static __always_inline

/* IEEE 802.1Q tag as it follows the MAC addresses' EtherType. */
struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

#define VLAN_ID 0x0fff

/* RFC 791, flags and fragment offset. */
#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff

/* RFC 6040: the two ECN bits of the TOS or traffic class octet. */
#define ECN_MASK 3
#define ECN_CE 3

/* The head of every IPv6 extension header but the fragment header (RFC 8200,
 * section 4): length in units of 8 bytes, the first not counted; of the
 * authentication header (RFC 4302) in units of 4 bytes, the first two not
 * counted.
 */
struct extension {
	__u8 next;
	__u8 length;
	__u8 type;
	__u8 segments_left; /* of the routing header only */
	__u32 data;
};

/* IPv6 fragment header: the 16 bits of offset and flags (RFC 8200, section 4.5). */
#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_FRAGMENT_OFFSET 0xfff8

/* The common header of SCTP (RFC 9260, section 3.1). */
struct sctp {
	__be16 source;
	__be16 destination;
	__be32 tag;
	__be32 checksum;
};

/* UDP and the header of Generic UDP Encapsulation, variant 0 without options
 * (draft-ietf-intarea-gue, section 3).
 */
struct gue {
	struct udphdr udp;
	__u8 variant; /* variant, control bit, length of options in 4 bytes */
	__u8 protocol;
	__be16 flags;
};

/* IANA "Service Name and Transport Protocol Port Number Registry". */
#define GUE_PORT 6080

/* Default TTL of headers made here (RFC 1700, "IP time to live"). */
#define OUTER_TTL 64

/* The header of ICMP (RFC 792) and ICMPv6 (RFC 4443): data is an identifier and
 * a sequence number in echoes, an MTU in errors that tell one.
 */
struct icmp {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 data;
};

#define ICMP4_ECHO_REPLY 0
#define ICMP4_UNREACHABLE 3
#define ICMP4_FRAGMENTATION_NEEDED 4 /* code of the former */
#define ICMP4_ECHO 8
#define ICMP6_UNREACHABLE 1
#define ICMP6_TOO_BIG 2
#define ICMP6_ECHO 128
#define ICMP6_ECHO_REPLY 129
