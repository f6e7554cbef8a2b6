/* The ABI between the XDP programs and user space: the contents of the maps.
 *
 * Go gets these types through bpf2go. User space writes services, backends and
 * slots through memory mappings, so every member that a program reads while it
 * may change is aligned and replaced by one store of at most 8 bytes.
 * Addresses and ports are in network byte order, an IPv4 address is the first
 * word of its field, everything else is in host byte order.
 */
#pragma once

#include <linux/types.h>

/* An enumeration that is stored in one byte. */
#define byte_enum enum __attribute__((packed))

/* How a packet reaches its backend. */
byte_enum mode {
	MODE_NAT,
	MODE_L2,
	MODE_IPIP,
};

/* Every way a packet can end other than being forwarded to a backend or back to
 * its client, which the record of the backend counts. dataplane/reason.go names
 * them.
 */
enum reason {
	PASS_NOT_IP,
	PASS_NO_SERVICE,
	PASS_NO_FLOW,
	PASS_FRAGMENT,
	PASS_EXTENSION_HEADERS,
	PASS_MALFORMED,
	DROP_NO_BACKEND,
	DROP_NEXT_HOP_UNRESOLVED,
	DROP_NO_DEVICE,
	DROP_TTL_EXPIRED,
	DROP_TOO_BIG,
	DROP_NAT_PORTS_EXHAUSTED,
	DROP_FLOW_TABLE_FULL,
	DROP_NO_HEADROOM,
	ANSWER_ECHO,
	ANSWER_TOO_BIG,
	REASON_COUNT,
};

struct service_key4 {
	__be32 address;
	__be16 port; /* 0 is every port */
	__u8 protocol;
	__u8 pad;
};

struct service_key6 {
	__be32 address[4];
	__be16 port;
	__u8 protocol;
	__u8 pad;
};

/* A service, found through services4 or services6. */
struct service {
	__u64 table; /* the region of its Maglev table: first slot | slots << 32 */
	enum mode mode;
	__u8 pad[7];
};

/* One slot of a Maglev table: indices of backends, 0 is none. previous is 0
 * while the slot is stable.
 */
struct slot {
	__u16 current;
	__u16 previous;
};

/* Slots come by the cache line, since an element of an array map takes at least
 * 8 bytes. Slot i of all is slot i % SLOTS_PER_LINE of line i / SLOTS_PER_LINE.
 */
#define SLOTS_PER_LINE 16

struct slot_line {
	struct slot slots[SLOTS_PER_LINE];
};

/* Set in an outer tag of IEEE 802.1ad, not 802.1Q. */
#define VLAN_AD 0x8000

/* How a frame leaves this host towards its next router or host. */
struct hop {
	__u8 mac[6];
	__u16 mtu; /* bytes of the IP packet, 0 is unknown */
	__u8 local_mac[6];
	__u16 vlan;    /* outer tag: VLAN id | VLAN_AD, 0 is untagged */
	__u32 ifindex; /* 0 is unresolved */
	__u16 inner_vlan;
	__u16 pad;
};

byte_enum backend_flags {
	BACKEND_USED = 1,    /* the record describes a backend */
	BACKEND_IPV6 = 2,    /* its address is IPv6 */
	BACKEND_SERVING = 4, /* its flows stay: it is up or draining */
};

/* A backend of one service: one cache line. generation grows each time the
 * index is given to another backend, so that what remembers an index can tell.
 */
struct backend {
	struct hop hop;
	__be32 address[4];
	__be32 source[4]; /* this host's address towards the backend */
	__be16 port;	  /* nat: destination port, 0 keeps the client's */
	__u16 service;	  /* index in services */
	__u16 generation;
	enum backend_flags flags;
	__u8 pad;
};

/* What is counted for a backend, per CPU. */
struct counters {
	__u64 packets; /* from clients */
	__u64 bytes;   /* of their frames as received */
	__u64 new_flows;
	__u64 replies; /* packets back to clients, in nat mode */
};

/* The part of a flow's key that IPv4 and IPv6 share; must come first. */
struct ports {
	__be16 source;
	__be16 destination;
	__u8 protocol;
	__u8 pad[3];
};

struct tuple4 {
	struct ports ports;
	__be32 source;
	__be32 destination;
};

struct tuple6 {
	struct ports ports;
	__be32 source[4];
	__be32 destination[4];
};

byte_enum flow_state {
	FLOW_OPENING,		 /* TCP: only SYN seen from the client */
	FLOW_OPEN, FLOW_CLOSING, /* TCP: FIN or RST seen */
};

/* A remembered flow, by the tuple that its client sends. The IPv4 and IPv6
 * forms share their head.
 */
struct flow {
	__u16 backend;
	__u16 generation;
	__be16 nat_port;       /* nat: source port towards the backend */
	enum flow_state state; /* kept in nat mode only */
	__u8 pad;
	__u32 seen; /* nat: tick of the client's last packet, see clock.h */
};

struct flow4 {
	struct flow head;
	__be32 source; /* nat: source address towards the backend */
};

struct flow6 {
	struct flow head;
	__be32 source[4];
};

/* The way back of a flow in nat mode, by the tuple that its backend sends. The
 * IPv4 and IPv6 forms share their head.
 */
struct reply {
	struct hop hop; /* towards the client */
	__u16 backend;
	__u16 generation;
	__be16 client_port;
	__be16 service_port;
	__u32 seen;
	enum flow_state state;
	__u8 pad[3];
};

struct reply4 {
	struct reply head;
	__be32 client;
	__be32 service;
};

struct reply6 {
	struct reply head;
	__be32 client[4];
	__be32 service[4];
};
