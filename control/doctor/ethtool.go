package doctor

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/dataplane"
)

// checkOffloads looks for packets that are put together before Sluice sees them.
func checkOffloads(p *patient) ([]Finding, error) {
	links, err := p.links()
	var findings []Finding
	for _, link := range links {
		name := link.Attrs().Name
		o, err := readOffloads(name)
		if err != nil {
			return findings, fmt.Errorf("%s: %w", name, err)
		}
		findings = append(findings, o.judge(name, p.generic(name))...)
		if link.Type() == "veth" {
			findings = append(findings, Finding{
				Severity: Info, Object: "interface " + name,
				Problem: "its far end cannot be seen from here: checksums and segmentation left to this veth break packets",
				Command: "ethtool -K INTERFACE tx off tso off gso off", On: "the far end of " + name,
			})
		}
	}
	return findings, err
}

// generic says whether XDP is known to be generic on an interface.
func (p *patient) generic(name string) bool {
	if p.status == nil {
		return p.Config != nil && p.Config.XDPMode == dataplane.XDPGeneric
	}
	for _, i := range p.status.Interfaces {
		if i.Name == name {
			return i.Mode == dataplane.XDPGeneric
		}
	}
	return false
}

// offloads are the receive offloads of an interface.
type offloads struct{ gro, lro bool }

// judge says what is wrong with them. LRO comes before any XDP, GRO only before generic XDP.
func (o offloads) judge(name string, generic bool) []Finding {
	var findings []Finding
	if o.lro {
		findings = append(findings, Finding{
			Severity: Error, Object: "interface " + name, Command: fmt.Sprintf("ethtool -K %s lro off", name),
			Problem: "LRO joins packets into ones larger than the MTU, which cannot be forwarded",
		})
	}
	if o.gro && generic {
		findings = append(findings, Finding{
			Severity: Warning, Object: "interface " + name, Command: fmt.Sprintf("ethtool -K %s gro off", name),
			Problem: "GRO joins packets before generic XDP sees them, so those of bulk transfers are larger than the MTU",
		})
	}
	return findings
}

func readOffloads(name string) (offloads, error) {
	const flagLRO = 1 << 15                       // ETH_FLAG_LRO
	flags := [2]uint32{unix.ETHTOOL_GFLAGS}       // struct ethtool_value: command, data
	receive := [2]uint32{unix.ETHTOOL_GGRO}       // the same
	err1 := ethtool(name, unsafe.Pointer(&flags)) // drivers that have none of the flags may refuse
	if errors.Is(err1, unix.EOPNOTSUPP) {
		err1 = nil
	}
	err2 := ethtool(name, unsafe.Pointer(&receive))
	return offloads{gro: receive[1] != 0, lro: flags[1]&flagLRO != 0}, errors.Join(err1, err2)
}

// checkRings looks for receive rings that could be longer: bursts overflow short ones.
func checkRings(p *patient) ([]Finding, error) {
	links, err := p.links()
	var findings []Finding
	for _, link := range links {
		r, err := readRing(link.Attrs().Name)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return findings, fmt.Errorf("%s: %w", link.Attrs().Name, err)
		}
		findings = append(findings, r.judge(link.Attrs().Name)...)
	}
	return findings, err
}

// ring is the receive ring of an interface, in frames.
type ring struct{ now, most uint32 }

func (r ring) judge(name string) []Finding {
	if r.now >= r.most {
		return nil
	}
	return []Finding{{
		Severity: Info, Object: "interface " + name, Command: fmt.Sprintf("ethtool -G %s rx %d", name, r.most),
		Problem: fmt.Sprintf("its receive ring has %d of %d frames: a longer one loses fewer packets in bursts", r.now, r.most),
	}}
}

func readRing(name string) (ring, error) {
	// struct ethtool_ringparam
	var value struct{ command, rxMost, miniMost, jumboMost, txMost, rx, mini, jumbo, tx uint32 }
	value.command = unix.ETHTOOL_GRINGPARAM
	err := ethtool(name, unsafe.Pointer(&value))
	return ring{now: value.rx, most: value.rxMost}, err
}

// ethtool makes a SIOCETHTOOL call, whose value begins with the command.
func ethtool(name string, value unsafe.Pointer) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var request struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.data = value
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(&request)
	if errno != 0 {
		return errno
	}
	return nil
}
