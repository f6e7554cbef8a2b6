package lab

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of the SIOCETHTOOL ioctl (include/uapi/linux/ethtool.h).
const (
	setTransmitChecksums      = 0x17 // ETHTOOL_STXCSUM
	setTCPSegmentation        = 0x1f // ETHTOOL_STSO
	setGenericSegmentation    = 0x24 // ETHTOOL_SGSO
	setGenericReceiveOffloads = 0x2c // ETHTOOL_SGRO
)

// setOffloads prepares a veth end in the namespace of the calling thread. Without transmit offloads the
// sender completes checksums and cuts segments itself, as for a wire; a program that rewrites addresses
// relies on both. Receiving with GRO makes a veth end poll, without which it takes no frames from XDP.
func setOffloads(name string, transmit bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, command := range []uint32{setTransmitChecksums, setTCPSegmentation, setGenericSegmentation} {
		if err := ethtool(fd, name, command, transmit); err != nil {
			return err
		}
	}
	return ethtool(fd, name, setGenericReceiveOffloads, true)
}

// ethtool switches one feature of an interface.
func ethtool(fd int, name string, command uint32, on bool) error {
	value := struct{ command, data uint32 }{command: command} // struct ethtool_value
	if on {
		value.data = 1
	}
	var request struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(&value)
	if errno != 0 {
		return fmt.Errorf("ethtool command %#x: %w", command, errno)
	}
	return nil
}
