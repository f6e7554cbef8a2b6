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
	MODE_GUE,
};

/* Every way a packet can end. The first two are counted in the record of the
 * backend, the others in the map of reasons.
 */
enum reason {
	TO_BACKEND,
	TO_CLIENT,
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
	DROP_DENIED,
	DROP_RATE_LIMITED,
	DROP_FRAGMENT_UNKNOWN,
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

byte_enum service_flags {
	SERVICE_SOURCES = 1,	 /* rules for source prefixes are there */
	SERVICE_QUIC = 2,	 /* connection IDs name backends */
	SERVICE_LIMITED = 4,	 /* new flows are limited */
	SERVICE_JUST_ENOUGH = 8, /* flows are remembered where they must be only */
	SERVICE_UNTRACKED = 16,	 /* no flow is remembered */
	SERVICE_P2C = 32,	 /* of two slots the one with less load is taken */
};

/* What of a packet chooses its slot. */
byte_enum hash_kind {
	HASH_FLOW,
	HASH_SOURCE, /* hash_prefix bits of the address */
	HASH_NO_SOURCE_PORT,
	HASH_DESTINATION_PORT,
};

/* A service, found through services4 or services6, or a set of its backends,
 * found through sources4 or sources6; of that only the table counts.
 */
struct service {
	__u64 table; /* the region of its Maglev table: first slot | slots << 32 */

	/* replaced by one store */
	enum mode mode;
	enum service_flags flags;
	enum hash_kind hash;
	__u8 hash_prefix;
	__u16 clamp_mss;  /* bytes, 0 is off */
	__u8 quic_config; /* QUIC-LB: the first three bits of connection IDs */
	__u8 quic_length; /* QUIC-LB: of server IDs, in bytes */

	__u32 limit_interval; /* ns from one new flow of a source to the next */
	__u32 limit_burst;    /* new flows at once */
	__u8 limit_prefix;    /* bits of the address that share a bucket */
	__u8 pad[7];
};

/* In struct service: what fits the way to the backend. */
#define CLAMP_MSS_AUTO 65535

/* A rule for a source prefix of a service. */
struct source_key4 {
	__u32 prefix; /* 32, for the service, and the bits of the address */
	__u32 service;
	__be32 address;
};

struct source_key6 {
	__u32 prefix;
	__u32 service;
	__be32 address[4];
};

/* The value of a rule: this, or the index in services of a set of backends. */
#define SOURCE_DENIED 0xffffffff

/* The backend that QUIC connection IDs name by a server ID. */
struct server_key {
	__u32 service;
	__u8 id[16]; /* zeros behind it */
};

struct server {
	__u32 backend;
	__u16 generation;
	__u16 pad;
};

/* The bucket of a source prefix of a service. IPv4 as everywhere. */
struct bucket_key {
	__be32 address[4];
	__u32 service;
};

/* One slot of a Maglev table, a word of 64 bits, from the lowest on: its current and
 * its previous backend, 24 bits each of an index, 0 is none, and 16 of a tick
 * (clock.h): when a packet last went to the previous one, modulo 19.5 hours. There is a
 * previous one while the slot is in transition, and the flows that are not remembered
 * belong to it. User space replaces the whole word, programs the tick.
 */
#define SLOT_INDEX_BITS 24

/* Of a service or a set, while its table replaces one of another size, whose slots
 * are none of its own: the other one, which tells what the flows of slots in
 * transition belong to.
 */
struct older {
	__u64 table; /* as in struct service; 0 is none */
	__u32 seen;  /* tick at which it was last asked */
	__u32 pad;
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
	BACKEND_DRAINING =
	    8, /* it takes no new flows: when its flows were seen is noted */
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

/* The load of a backend whose service has SERVICE_P2C: a cache line of its own, since
 * all CPUs write it.
 */
struct load {
	__s64 active; /* flows in progress, as far as their ends were seen */
	__u32 weight;
	__u32 pad[13];
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
	__u8 association; /* 1: the source is the verification tag of SCTP */
	__u8 pad[2];
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

/* What the fragments of an IP packet have in common (RFC 791, RFC 8200): the key
 * under which the ports of the first one are kept.
 */
struct fragment_key4 {
	__be32 source;
	__be32 destination;
	__be16 id;
	__u8 protocol;
	__u8 pad;
};

struct fragment_key6 {
	__be32 source[4];
	__be32 destination[4];
	__be32 id;
};

byte_enum flow_state {
	FLOW_OPENING,		 /* one packet, or of TCP only SYNs, from the client */
	FLOW_OPEN, FLOW_CLOSING, /* TCP: FIN or RST seen */
};

/* A remembered flow, by the tuple that its client sends. The IPv4 and IPv6
 * forms share their head.
 */
struct flow {
	__u32 backend;
	__u16 generation;
	union {
		__be16 nat_port; /* nat: source port towards the backend */
		__u16 set;	 /* other modes: index in services of its table */
	};
	enum flow_state state;
	__u8 timed; /* its handshake is, see signal.h */
	__u8 pad[2];
	__u32
	    seen; /* tick (clock.h) of a packet of the client: in nat mode, and where
		   * it ages, of the last one, see note_flow; otherwise of the first */
};

struct flow4 {
	struct flow head;
	union {
		__be32 source; /* nat: source address towards the backend */
		__u32 hash;    /* other modes: what chose its slot */
	};
};

struct flow6 {
	struct flow head;
	union {
		__be32 source[4];
		__u32 hash;
	};
};

/* The way back of a flow in nat mode, by the tuple that its backend sends. The
 * IPv4 and IPv6 forms share their head.
 */
struct reply {
	struct hop hop; /* towards the client */
	__u32 backend;
	__u32 seen;
	__u16 generation;
	__be16 client_port;
	__be16 service_port;
	enum flow_state state;
	__u8 pad;
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

/* Which flows are watched, and what of them was not told. */
struct sampling {
	__u32 every;  /* one flow of so many, a power of two; 0 is none */
	__u32 second; /* the time, as far as anything here has to know it */
	__u64 lost;   /* signals that found the buffer full */
};

byte_enum signal_kind {
	SIGNAL_OPENED,	    /* a SYN went to the backend */
	SIGNAL_REPEATED,    /* another one of the same handshake */
	SIGNAL_ANSWERED,    /* the client went on, so the backend has answered */
	SIGNAL_RESET,	    /* nat: the backend refused the handshake */
	SIGNAL_RESET_OPEN,  /* nat: the backend reset an open connection */
	SIGNAL_UNREACHABLE, /* nat: an ICMP error about a packet to the backend */
};

/* What a watched flow tells of its backend. */
struct signal {
	__u64 time;	/* CLOCK_MONOTONIC, ns */
	__u64 duration; /* ns since the handshake began; 0 where none is timed */
	__u32 flow;	/* hash */
	__u32 backend;
	__u16 generation;
	enum signal_kind kind;
	__u8 pad[5];
};

/* Why a packet goes to its backend. */
byte_enum cause {
	CAUSE_NONE,	     CAUSE_SLOT, /* the slot of its hash */
	CAUSE_FLOW,			 /* its flow is remembered */
	CAUSE_ASSOCIATION,		 /* its SCTP association is remembered */
	CAUSE_CONNECTION_ID,		 /* its QUIC connection ID names the backend */
	CAUSE_REPLY,			 /* nat: it came from the backend */
	CAUSE_PREVIOUS,			 /* it is older than a change of its slot */
	CAUSE_SECOND,			 /* its second slot had less load */
};

/* What became of a packet, for those who watch. */
struct verdict {
	enum reason reason;
	__u32 hash;    /* that chose the slot */
	__u32 slot;    /* of the table */
	__u32 slots;   /* size of the table, 0: no slot was looked at */
	__u32 backend; /* 0 is none */
	__u16 service; /* index in services, valid if served */
	__u16 set;     /* index in services of the set of backends */
	enum cause cause;
	__u8 served; /* it belongs to a service */
	__u8 pad[2];
};

/* So much of a frame is shown. */
#define SNAP 2048

/* A packet as it came and as it left. */
struct event {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	struct verdict verdict;
	__u32 ifindex; /* that it came in by */
	__u32 action;  /* XDP_* */
	__u32 before;  /* bytes of the frame, of which up to SNAP are shown */
	__u32 after;
	__u32 pad;
	__u8 frame_before[SNAP];
	__u8 frame_after[SNAP];
};
