/* Coarse time for what ages. */
#pragma once

#include "protocol.h"

/* A tick is 2^30 ns, 1.07 s: a shift instead of a division. The tick counter
 * wraps after 146 years.
 */
always_inline __u32 tick(void)
{
	return bpf_ktime_get_coarse_ns() >> 30;
}

#define SECONDS(n) ((n) * 1000000000ULL >> 30)
