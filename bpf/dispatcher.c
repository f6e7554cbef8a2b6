/* Several XDP programs on one interface, after the protocol of libxdp
 * (lib/libxdp/protocol.org in xdp-tools): the programs replace the stubs below,
 * which are called in turn until one returns an action that is final for it.
 * The names and the layout are those of the protocol.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX_PROGRAMS 10

/* What a stub returns that no program replaces. */
#define NOTHING 31

char __license[] SEC("license") = "Dual MIT/GPL";

/* Version 2. Version 3 has four bytes more, which say that it is bound to a device. */
struct dispatcher_config {
	__u8 magic;
	__u8 version;
	__u8 programs;			/* how many run */
	__u8 frags;			/* the dispatcher takes packets in fragments */
	__u32 continues[MAX_PROGRAMS];	/* bits: the actions after which the next one
					   runs */
	__u32 priorities[MAX_PROGRAMS]; /* ascending */
	__u32 program_flags[MAX_PROGRAMS]; /* BPF_F_XDP_HAS_FRAGS,
					      BPF_F_XDP_DEV_BOUND_ONLY */
};

const volatile struct dispatcher_config config;

/* Moving the tail by nothing tells the verifier that what comes in place of a
 * stub may change the packet, which it does not allow otherwise (Linux 6.13).
 */
#define STUB(name)                                                                     \
	__attribute__((noinline)) int name(struct xdp_md *ctx)                         \
	{                                                                              \
		volatile int action = NOTHING;                                         \
                                                                                       \
		if (!ctx)                                                              \
			return XDP_ABORTED;                                            \
		bpf_xdp_adjust_tail(ctx, 0);                                           \
		return action;                                                         \
	}

STUB(prog0)
STUB(prog1)
STUB(prog2)
STUB(prog3)
STUB(prog4)
STUB(prog5)
STUB(prog6)
STUB(prog7)
STUB(prog8)
STUB(prog9)

#define CALL(number)                                                                   \
	do {                                                                           \
		int action;                                                            \
                                                                                       \
		if (config.programs <= number)                                         \
			return XDP_PASS;                                               \
		action = prog##number(ctx);                                            \
		if (!(1U << action & config.continues[number]))                        \
			return action;                                                 \
	} while (0)

SEC("xdp")
int xdp_dispatcher(struct xdp_md *ctx)
{
	CALL(0);
	CALL(1);
	CALL(2);
	CALL(3);
	CALL(4);
	CALL(5);
	CALL(6);
	CALL(7);
	CALL(8);
	CALL(9);
	return XDP_PASS;
}
