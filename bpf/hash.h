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
