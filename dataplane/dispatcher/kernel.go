package dispatcher

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attached returns the XDP program of an interface, 0 when there is none.
func attached(index int) (id ebpf.ProgramID, generic bool, err error) {
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return 0, false, err
	}
	xdp := l.Attrs().Xdp
	if xdp == nil || !xdp.Attached {
		return 0, false, nil
	}
	return ebpf.ProgramID(xdp.ProgId), xdp.AttachMode == nl.XDP_ATTACHED_SKB, nil
}

// attach puts a program on an interface in the place of another; nil is none. It fails with errChanged when
// something else is there. No link as of bpf_link_create(2) is used, for nobody else could replace that.
func attach(index int, generic bool, program, old *ebpf.Program) error {
	fd, flags := -1, uint32(unix.XDP_FLAGS_DRV_MODE)
	if program != nil {
		fd = program.FD()
	}
	if generic {
		flags = unix.XDP_FLAGS_SKB_MODE
	}
	if old == nil {
		flags |= unix.XDP_FLAGS_UPDATE_IF_NOEXIST
	} else {
		flags |= unix.XDP_FLAGS_REPLACE
	}
	xdp := nl.NewRtAttr(unix.IFLA_XDP|unix.NLA_F_NESTED, nil)
	xdp.AddRtAttr(unix.IFLA_XDP_FD, nl.Uint32Attr(uint32(fd)))
	xdp.AddRtAttr(unix.IFLA_XDP_FLAGS, nl.Uint32Attr(flags))
	if old != nil {
		xdp.AddRtAttr(unix.IFLA_XDP_EXPECTED_FD, nl.Uint32Attr(uint32(old.FD())))
	}
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(index)
	request := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	request.AddData(message)
	request.AddData(xdp)
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		return errors.Join(errChanged, err)
	}
	return err
}
