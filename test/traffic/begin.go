package traffic

import (
	"bufio"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Begin begins to connect from a port, 0 is any, to an IPv4 address, and does not wait. The socket is made by the thread
// that it is on, so that a loop which stays in a network namespace need not enter it for every connection. There is no
// file when no socket can be made; otherwise it has to be closed, also after an error.
func Begin(port uint16, to netip.AddrPort) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	conn := os.NewFile(uintptr(fd), to.String())
	if port != 0 {
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)}); err != nil {
			return conn, os.NewSyscallError("bind", err)
		}
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if errors.Is(err, unix.EINPROGRESS) {
		err = nil
	}
	return conn, os.NewSyscallError("connect", err)
}

// AskOnce makes one HTTP request over what Begin returned, see Ask; to write it waits for the connection.
func AskOnce(conn *os.File, deadline time.Time) (backend string, err error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	return Ask(conn, bufio.NewReaderSize(conn, 512), "", true)
}
