package packets

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// pcapHeader begins a classic capture: magic number of little-endian microseconds, version 2.4, zone, accuracy,
// longest frame, Ethernet.
var pcapHeader = []uint32{0xa1b2c3d4, 2 | 4<<16, 0, 0, 65536, 1}

// pcapRecord stands before each frame.
type pcapRecord struct {
	Seconds, Microseconds, Length, OriginalLength uint32
}

// began is when the first frame of every capture was "received", in seconds since 1970; the others follow a
// millisecond apart.
const began = 1767225600

// pcap is a capture of Ethernet frames.
func pcap(frames [][]byte) []byte {
	var b bytes.Buffer
	must(binary.Write(&b, binary.LittleEndian, pcapHeader))
	for i, frame := range frames {
		length := uint32(len(frame))
		must(binary.Write(&b, binary.LittleEndian, pcapRecord{began + uint32(i)/1000, uint32(i) % 1000 * 1000, length, length}))
		b.Write(frame)
	}
	return b.Bytes()
}

// readPcap returns the frames of a capture that pcap made.
func readPcap(capture []byte) (frames [][]byte, err error) {
	r := bytes.NewReader(capture)
	header := make([]uint32, len(pcapHeader))
	if err := binary.Read(r, binary.LittleEndian, header); err != nil || !slices.Equal(header, pcapHeader) {
		return nil, errors.New("no capture of this package")
	}
	for r.Len() > 0 {
		var record pcapRecord
		if err := binary.Read(r, binary.LittleEndian, &record); err != nil {
			return nil, err
		}
		frame := make([]byte, record.Length)
		if _, err := io.ReadFull(r, frame); err != nil {
			return nil, err
		}
		frames = append(frames, frame)
	}
	return frames, nil
}

func (g *group) frames() [][]byte {
	frames := make([][]byte, len(g.Cases))
	for i := range g.Cases {
		frames[i] = g.Cases[i].frame
	}
	return frames
}

// files are the group as it is stored, by name.
func (g *group) files() map[string][]byte {
	base := filepath.Join("testdata", g.Name)
	return map[string][]byte{
		base + ".pcap": pcap(g.frames()),
		base + ".yaml": []byte(g.Config),
		base + ".json": g.expected(),
	}
}

// expected is the group as JSON, a line a case.
func (g *group) expected() []byte {
	lines := func(n int, value func(i int) any) []byte {
		all := make([][]byte, n)
		for i := range all {
			line, err := json.Marshal(value(i))
			must(err)
			all[i] = line
		}
		return bytes.Join(all, []byte(",\n"))
	}
	return slices.Concat(
		[]byte("{\"cases\": [\n"), lines(len(g.Cases), func(i int) any { return g.Cases[i] }),
		[]byte("\n], \"spread\": [\n"), lines(len(g.Spread), func(i int) any { return g.Spread[i] }), []byte("\n]}\n"))
}

// load reads a stored group.
func load(name string) (*group, error) {
	base := filepath.Join("testdata", name)
	config, err := os.ReadFile(base + ".yaml")
	if err != nil {
		return nil, err
	}
	g := &group{Name: name, Config: string(config)}
	expected, err := os.ReadFile(base + ".json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(expected, g); err != nil {
		return nil, err
	}
	capture, err := os.ReadFile(base + ".pcap")
	if err != nil {
		return nil, err
	}
	frames, err := readPcap(capture)
	if err != nil {
		return nil, err
	}
	if len(frames) != len(g.Cases) {
		return nil, errors.New(base + ": as many frames as cases are needed")
	}
	for i := range g.Cases {
		g.Cases[i].frame = frames[i]
	}
	return g, nil
}
