package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// temporarySuffix is of the name under which a socket is made, before it has its mode and group.
const temporarySuffix = ".new"

// listen opens the API's socket with its mode and group. A socket that nobody answers on any more is
// replaced; one that a daemon answers on is an error.
func (a APIConfig) listen() (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", a.Socket, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("another daemon answers on %s: stop it first, or set api.socket", a.Socket)
	}
	if info, err := os.Lstat(a.Socket); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("api.socket: %s exists and is no socket", a.Socket)
	}
	if err := os.MkdirAll(filepath.Dir(a.Socket), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the API's socket: %w", err)
	}
	temporary := a.Socket + temporarySuffix
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("opening the API's socket: %w", err)
	}
	listener.SetUnlinkOnClose(false) // it has another name by then
	if err := a.publish(temporary); err != nil {
		listener.Close()
		os.Remove(temporary)
		return nil, fmt.Errorf("opening the API's socket: %w", err)
	}
	return listener, nil
}

// publish gives the socket its mode, group and name. Nobody can connect before.
func (a APIConfig) publish(temporary string) error {
	if err := os.Chmod(temporary, fs.FileMode(a.Mode)); err != nil {
		return err
	}
	group, err := a.groupID()
	if err != nil {
		return err
	}
	if err := os.Chown(temporary, -1, group); err != nil {
		return err
	}
	return os.Rename(temporary, a.Socket)
}

// close closes the listener and removes the socket.
func (a APIConfig) close(listener net.Listener) {
	listener.Close()
	os.Remove(a.Socket) // a socket that stays is replaced at the next start
}
