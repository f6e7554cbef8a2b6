package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// pcapPacket is a frame of a capture.
type pcapPacket struct {
	time  time.Time
	frame []byte
}

// pcapngMagic begins a file in the newer of both formats (block type of a section header).
const pcapngMagic = 0x0a0d0d0a

// pcapReader is what the readers of both formats have in common.
type pcapReader interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	LinkType() layers.LinkType
}

// readPcap reads a capture, pcap or pcapng; "-" is standard input. A frame of which the capture has only the
// beginning is filled up with zeros, so that its lengths are right again.
func (c *cli) readPcap(path string) ([]pcapPacket, error) {
	source := c.stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("reading the capture: %w", err)
		}
		defer file.Close()
		source = file
	}
	reader, err := openPcap(bufio.NewReader(source))
	if err != nil {
		return nil, invalidInput("%s is no capture in pcap or pcapng format: %v", path, err)
	}
	var packets []pcapPacket
	for {
		data, info, err := reader.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return packets, nil
		}
		if err != nil {
			return nil, invalidInput("%s: packet %d: %v", path, len(packets)+1, err)
		}
		frame, err := ethernetFrame(reader.LinkType(), data)
		if err != nil {
			return nil, invalidInput("%s: packet %d: %v", path, len(packets)+1, err)
		}
		if missing := info.Length - info.CaptureLength; missing > 0 {
			frame = append(frame, make([]byte, missing)...)
		}
		packets = append(packets, pcapPacket{info.Timestamp, frame})
	}
}

func openPcap(source *bufio.Reader) (pcapReader, error) {
	magic, err := source.Peek(4)
	if err != nil {
		return nil, errors.New("it is shorter than a header")
	}
	if binary.LittleEndian.Uint32(magic) == pcapngMagic {
		return pcapgo.NewNgReader(source, pcapgo.DefaultNgReaderOptions)
	}
	return pcapgo.NewReader(source)
}

// ethernetFrame puts a link header before a packet that was captured without.
func ethernetFrame(link layers.LinkType, data []byte) ([]byte, error) {
	switch link {
	case layers.LinkTypeEthernet:
		return data, nil
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6, 12: // 12 is LINKTYPE_RAW on some systems
		etherType := layers.EthernetTypeIPv4
		if len(data) > 0 && data[0]>>4 == 6 {
			etherType = layers.EthernetTypeIPv6
		}
		return append(binary.BigEndian.AppendUint16(make([]byte, 12), uint16(etherType)), data...), nil
	}
	return nil, fmt.Errorf("its link type is %v, not Ethernet: capture on one interface (tcpdump -i eth0), not on all", link)
}

// pcapSnap is the most that a record of a written capture holds, in bytes.
const pcapSnap = 65535

// pcapWriter writes a capture of Ethernet frames in the classic format, which everything reads.
type pcapWriter struct{ *pcapgo.Writer }

func newPcapWriter(w io.Writer) (pcapWriter, error) {
	p := pcapWriter{pcapgo.NewWriter(w)}
	return p, p.WriteFileHeader(pcapSnap, layers.LinkTypeEthernet)
}

// write adds a frame of which length bytes were on the wire.
func (p pcapWriter) write(at time.Time, frame []byte, length int) error {
	return p.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(frame), Length: length}, frame)
}

// pcapBytes is a whole capture.
func pcapBytes(packets []pcapPacket) ([]byte, error) {
	var b bytes.Buffer
	w, err := newPcapWriter(&b)
	if err != nil {
		return nil, err
	}
	for _, p := range packets {
		if err := w.write(p.time, p.frame, len(p.frame)); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
