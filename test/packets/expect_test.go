package packets

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// testCase is one frame and its expected end.
type testCase struct {
	Name   string   `json:"name"`
	Action string   `json:"action"`
	Reason []string `json:"reason"` // any of these

	// Service and the keys of Frames, the backends, must be named when the packet was forwarded; otherwise
	// they may be.
	Service string `json:"service,omitempty"`
	// Frames are what may leave, hexadecimal, by backend: "" is what Sluice sends itself. Without any, a frame
	// that passes is unchanged and nothing is asked of one that is dropped.
	Frames map[string]string `json:"frames,omitempty"`
	Free   []field           `json:"free,omitempty"` // parts of Frames that a hash decides

	Like string `json:"like,omitempty"` // the case whose backend, and port in nat mode, this one has too
	// Learn says where the frame that comes in holds the port that nat chose in an earlier case. The stored
	// frame has a placeholder, so a group with such frames runs twice.
	Learn *learned `json:"learn,omitempty"`

	// What a decoder objects to in the frame, on purpose.
	Malformed   bool `json:"malformed,omitempty"`
	BadChecksum bool `json:"bad-checksum,omitempty"`

	frame []byte
}

// field is a part of a frame at an offset in bytes.
type field struct {
	Kind     string `json:"kind"`               // "nat-port", "gue-port" or "flow-label"
	At       int    `json:"at"`                 // of 2 bytes, or of the 4 that end with the label
	Checksum int    `json:"checksum,omitempty"` // offset of the checksum that covers it; 0 is none
	UDP      bool   `json:"udp,omitempty"`      // the checksum is never 0
}

// learned is a port of another case in a frame.
type learned struct {
	Case   string  `json:"case"`
	Fields []field `json:"fields"`
}

// forwarded and toClient are the reasons of what Sluice sends on.
const (
	forwarded = "to_backend"
	toClient  = "to_client"
)

// put puts a word into a field of a frame.
func (f field) put(frame []byte, word uint16) {
	checksum := f.Checksum
	if checksum == 0 {
		checksum = -1
	}
	put(frame, f.At, checksum, word)
	if f.UDP && binary.BigEndian.Uint16(frame[checksum:]) == 0 {
		binary.BigEndian.PutUint16(frame[checksum:], 0xffff)
	}
}

// takeOver puts what the frame that came out has in a field into the wanted one, if that is a possible value.
func (f field) takeOver(want, got []byte) error {
	if len(got) < f.At+4 {
		return nil // the frames differ anyway
	}
	if f.Kind == "flow-label" {
		label := binary.BigEndian.Uint32(got[f.At:]) & 0xfffff
		binary.BigEndian.PutUint32(want[f.At:], binary.BigEndian.Uint32(want[f.At:])&^0xfffff|label)
		return nil
	}
	port := binary.BigEndian.Uint16(got[f.At:])
	if f.Kind == "nat-port" && (port < 1024 || port > 32767) || f.Kind == "gue-port" && port < 49152 {
		return fmt.Errorf("%s is %d", f.Kind, port)
	}
	f.put(want, port)
	return nil
}

// natPort is the port that nat chose, in the frame that came out; 0 if this is no case of nat.
func (c *testCase) natPort(frame []byte) uint16 {
	for _, f := range c.Free {
		if f.Kind == "nat-port" && len(frame) >= f.At+2 {
			return binary.BigEndian.Uint16(frame[f.At:])
		}
	}
	return 0
}

// check compares a result with what is expected of the frame that went in.
func (c *testCase) check(in []byte, got result) error {
	if got.Action != c.Action || !slices.Contains(c.Reason, got.Reason) {
		return fmt.Errorf("ended as %s, %s; expected %s, %s", got.Action, got.Reason, c.Action, c.Reason)
	}
	sentOn := got.Reason == forwarded || got.Reason == toClient
	known := sentOn || got.Service != "" && c.Service != ""
	if known && got.Service != c.Service {
		return fmt.Errorf("belongs to service %q, expected %q", got.Service, c.Service)
	}
	if got.Action == "drop" {
		return nil
	}
	if len(c.Frames) == 0 {
		return compare(got.Packet, in)
	}
	text, expected := c.Frames[got.Backend]
	if own := c.Frames[""]; !sentOn && own != "" {
		text, expected = own, true
	}
	if !expected {
		return fmt.Errorf("went to backend %q", got.Backend)
	}
	want := unhex(text)
	for _, f := range c.Free {
		if err := f.takeOver(want, got.Packet); err != nil {
			return err
		}
	}
	if err := compare(got.Packet, want); err != nil {
		return err
	}
	return c.decodes(got.Packet)
}

func compare(got, want []byte) error {
	if string(got) == string(want) {
		return nil
	}
	dump := func(b []byte) string {
		return gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default).Dump()
	}
	return fmt.Errorf("frame differs (-want +got):\n%s", cmp.Diff(dump(want), dump(got)))
}

// decodes checks that a frame is what a host understands, unless it is malformed on purpose.
func (c *testCase) decodes(frame []byte) error {
	if c.Malformed {
		return nil
	}
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if layer := packet.ErrorLayer(); layer != nil {
		return fmt.Errorf("decoding: %w\n%s", layer.Error(), packet.Dump())
	}
	// A checksum covers the addresses of the innermost IP header before it.
	var network gopacket.NetworkLayer
	for _, layer := range packet.Layers() {
		switch layer := layer.(type) {
		case gopacket.NetworkLayer:
			network = layer
		case interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}:
			must(layer.SetNetworkLayerForChecksum(network))
		}
	}
	err, wrong := packet.VerifyChecksums()
	if err != nil {
		return err
	}
	for _, w := range wrong {
		if !c.BadChecksum {
			return fmt.Errorf("%s has the checksum %#x instead of %#x", w.Layer.LayerType(), w.Actual, w.Correct)
		}
	}
	return nil
}

// checkLike compares a case's backend and port with those of the case that it is like.
func (g *group) checkLike(c *testCase, results []result) error {
	if c.Like == "" {
		return nil
	}
	this, other := g.index(c.Name), g.index(c.Like)
	if a, b := results[this].Backend, results[other].Backend; a != b {
		return fmt.Errorf("went to backend %q, but %q went to %q", a, c.Like, b)
	}
	a, b := c.natPort(results[this].Packet), g.Cases[other].natPort(results[other].Packet)
	if a != 0 && b != 0 && a != b {
		return fmt.Errorf("went from port %d, but %q went from %d", a, c.Like, b)
	}
	return nil
}

// checkSpread counts the backends of the cases that should not all have the same.
func (g *group) checkSpread(t *testing.T, results []result) {
	t.Helper()
	for _, s := range g.Spread {
		backends := map[string]bool{}
		for _, name := range s.Cases {
			if backend := results[g.index(name)].Backend; backend != "" {
				backends[backend] = true
			}
		}
		if len(backends) < s.AtLeast {
			t.Errorf("%s to %s reached %d backends, expected %d", s.Cases[0], s.Cases[len(s.Cases)-1], len(backends), s.AtLeast)
		}
	}
}

// checkPorts checks that no two flows leave with the same addresses and ports in nat mode.
func (g *group) checkPorts(t *testing.T, results []result) {
	t.Helper()
	users := map[string]string{}
	for i := range g.Cases {
		c := &g.Cases[i]
		in, out := flowOf(c.frame), flowOf(results[i].Packet)
		if c.natPort(results[i].Packet) == 0 || in == "" || out == "" {
			continue
		}
		if other, used := users[out]; used && other != in {
			t.Errorf("%s: flow %s leaves as %s, which flow %s does too", c.Name, in, out, other)
		}
		users[out] = in
	}
}

// flowOf names the flow of a frame, "" for what has no ports.
func flowOf(frame []byte) string {
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Lazy)
	transport := packet.TransportLayer()
	if transport == nil {
		return ""
	}
	return fmt.Sprint(packet.NetworkLayer().NetworkFlow(), " ", transport.LayerType(), " ", transport.TransportFlow())
}

// unhex decodes what this package encoded.
func unhex(text string) []byte {
	bytes, err := hex.DecodeString(text)
	must(err)
	return bytes
}
