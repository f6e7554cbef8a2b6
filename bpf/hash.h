/* The hash of a flow. Every host of a fleet must compute the same one. */
#pragma once

#include "maps.h"

/* The finaliser of MurmurHash3's 64-bit form (Appleby, public domain): every
 * bit of the input changes every bit of the output with probability 1/2.
 */
always_inline __u64 mix(__u64 x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

always_inline __u64 hash_ports(const struct ports *ports)
{
	return (__u64)ports->source << 24 | (__u64)ports->destination << 40 |
	       ports->protocol;
}

/* A 64-bit word made of the seed, by the golden ratio so that small seeds reach
 * all bits; 0 stays 0.
 */
always_inline __u64 seed(void)
{
	return hash_seed * 0x9e3779b97f4a7c15ULL;
}

always_inline __u32 hash4(const struct tuple4 *t)
{
	__u64 h = mix(seed() ^ ((__u64)t->source << 32 | t->destination));

	return mix(h ^ hash_ports(&t->ports)) >> 32;
}

always_inline __u32 hash6(const struct tuple6 *t)
{
	const __u32 *s = t->source, *d = t->destination;
	__u64 h = mix(seed() ^ ((__u64)s[0] << 32 | s[1]));

	h = mix(h ^ ((__u64)s[2] << 32 | s[3]));
	h = mix(h ^ ((__u64)d[0] << 32 | d[1]));
	h = mix(h ^ ((__u64)d[2] << 32 | d[3]));
	return mix(h ^ hash_ports(&t->ports)) >> 32;
}

/* The mask of word i of an address for a prefix of so many bits. */
always_inline __be32 prefix_mask(__u8 bits, int i)
{
	int left = bits - 32 * i;

	if (left <= 0)
		return 0;
	return bpf_htonl(left >= 32 ? ~0U : ~0U << (32 - left));
}

/* The hash that chooses the slot, of the part of the tuple that the service
 * wants; hash is that of all of it.
 */
always_inline __u32 slot_hash4(const struct service *s, const struct tuple4 *t,
			       __u32 hash)
{
	struct tuple4 part = {};

	if (s->hash == HASH_FLOW)
		return hash;
	if (s->hash == HASH_SOURCE) {
		part.source = t->source & prefix_mask(s->hash_prefix, 0);
		return hash4(&part);
	}
	part.ports.destination = t->ports.destination;
	if (s->hash == HASH_NO_SOURCE_PORT) {
		part.source = t->source;
		part.destination = t->destination;
		part.ports.protocol = t->ports.protocol;
	}
	return hash4(&part);
}

always_inline __u32 slot_hash6(const struct service *s, const struct tuple6 *t,
			       __u32 hash)
{
	struct tuple6 part = {};

	if (s->hash == HASH_FLOW)
		return hash;
	if (s->hash == HASH_SOURCE) {
		for (int i = 0; i < 4; i++)
			part.source[i] = t->source[i] & prefix_mask(s->hash_prefix, i);
		return hash6(&part);
	}
	part.ports.destination = t->ports.destination;
	if (s->hash == HASH_NO_SOURCE_PORT) {
		__builtin_memcpy(part.source, t->source, sizeof(part.source));
		__builtin_memcpy(part.destination, t->destination,
				 sizeof(part.destination));
		part.ports.protocol = t->ports.protocol;
	}
	return hash6(&part);
}
