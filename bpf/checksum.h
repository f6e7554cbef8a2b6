/* Incremental Internet checksums (RFC 1624, equation 3), over sums of 16-bit
 * words that are folded once at the end. Words stay in network byte order: the
 * one's complement sum does not mind (RFC 1071, section 2).
 */
#pragma once

#include "protocol.h"

always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* What replacing old by new adds to a sum. */
always_inline __u64 replace32(__be32 old, __be32 new)
{
	return (__u64)(__u32)~old + new;
}

always_inline __u64 replace16(__be16 old, __be16 new)
{
	return (__u64)(__u16)~old + new;
}

always_inline __u64 replace128(const __be32 *old, const __be32 *new)
{
	return replace32(old[0], new[0]) + replace32(old[1], new[1]) +
	       replace32(old[2], new[2]) + replace32(old[3], new[3]);
}

always_inline void update(__sum16 *check, __u64 added)
{
	*check = ~fold((__u16) ~*check + added);
}

/* The checksum of an IPv4 header without options whose check field is 0. */
always_inline __sum16 header_checksum(const struct iphdr *ip)
{
	const __be16 *word = (const __be16 *)ip;
	__u64 sum = 0;

	for (__u32 i = 0; i < sizeof(*ip) / 2; i++)
		sum += word[i];
	return ~fold(sum);
}
