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

/* The sum of all words of a tuple, each times a key of its own (multilinear hashing:
 * Lemire and Kaser, "Strongly universal string hashing is fast", The Computer Journal
 * 57(11), 2014): multiplications that do not wait for one another, and nobody who does
 * not know the keys can choose flows that meet.
 */
always_inline __u64 hash_ports(const struct ports *ports)
{
	return hash_keys[0] +
	       hash_keys[1] * ((__u32)ports->source | (__u32)ports->destination << 16) +
	       hash_keys[2] * ports->protocol;
}

always_inline __u32 hash4(const struct tuple4 *t)
{
	return mix(hash_ports(&t->ports) + hash_keys[3] * t->source +
		   hash_keys[4] * t->destination) >>
	       32;
}

always_inline __u32 hash6(const struct tuple6 *t)
{
	__u64 sum = hash_ports(&t->ports);

	for (int i = 0; i < 4; i++) {
		sum += hash_keys[3 + i] * t->source[i];
		sum += hash_keys[7 + i] * t->destination[i];
	}
	return mix(sum) >> 32;
}

/* The mask of word i of an address for a prefix of so many bits. */
always_inline __be32 prefix_mask(__u8 bits, int i)
{
	int left = bits - 32 * i;

	if (left <= 0)
		return 0;
	return bpf_htonl(left >= 32 ? ~0U : ~0U << (32 - left));
}

/* The hash of the part of a tuple that a service wants. Functions of their own, so that
 * the verifier walks them once and not once for every way to get here.
 */
__noinline __u32 part_hash4(const struct tuple4 *t, __u32 kind, __u32 prefix)
{
	struct tuple4 part = {};

	if (!t)
		return 0;
	if (kind == HASH_SOURCE) {
		part.source = t->source & prefix_mask(prefix, 0);
		return hash4(&part);
	}
	part.ports.destination = t->ports.destination;
	if (kind == HASH_NO_SOURCE_PORT) {
		part.source = t->source;
		part.destination = t->destination;
		part.ports.protocol = t->ports.protocol;
	}
	return hash4(&part);
}

__noinline __u32 part_hash6(const struct tuple6 *t, __u32 kind, __u32 prefix)
{
	struct tuple6 part = {};

	if (!t)
		return 0;
	if (kind == HASH_SOURCE) {
		for (int i = 0; i < 4; i++)
			part.source[i] = t->source[i] & prefix_mask(prefix, i);
		return hash6(&part);
	}
	part.ports.destination = t->ports.destination;
	if (kind == HASH_NO_SOURCE_PORT) {
		__builtin_memcpy(part.source, t->source, sizeof(part.source));
		__builtin_memcpy(part.destination, t->destination,
				 sizeof(part.destination));
		part.ports.protocol = t->ports.protocol;
	}
	return hash6(&part);
}

/* The hash that chooses the slot; hash is that of the whole tuple. */
always_inline __u32 slot_hash4(const struct service *s, const struct tuple4 *t,
			       __u32 hash)
{
	return s->hash == HASH_FLOW ? hash : part_hash4(t, s->hash, s->hash_prefix);
}

always_inline __u32 slot_hash6(const struct service *s, const struct tuple6 *t,
			       __u32 hash)
{
	return s->hash == HASH_FLOW ? hash : part_hash6(t, s->hash, s->hash_prefix);
}
