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
}

// longestPacket is the most that a packet is taken to have been on the wire, in bytes: MAXIMUM_SNAPLEN of
// libpcap (pcap-int.h). A broken record may say more.
const longestPacket = 262144

// readPcap reads a capture, pcap or pcapng; "-" is standard input. A frame of which the capture has only the
// beginning is filled up with zeros, so that its lengths are right again.
//
// With an error it returns the packets before the one that cannot be read.
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
		frame, at, err := readFrame(reader)
		switch {
		case errors.Is(err, io.EOF):
			return packets, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return packets, invalidInput("%s ends within packet %d", path, len(packets)+1)
		case err != nil:
			return packets, invalidInput("%s: packet %d: %v", path, len(packets)+1, err)
		}
		packets = append(packets, pcapPacket{at, frame})
	}
}

func openPcap(source *bufio.Reader) (pcapReader, error) {
	magic, err := source.Peek(4)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is shorter than a header")
	}
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(magic) == pcapngMagic {
		// Interfaces may differ in their link types; by default the packets of some would be left out.
		return pcapgo.NewNgReader(source, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	}
	return pcapgo.NewReader(source)
}

// readFrame reads the next packet and makes it an Ethernet frame of its length on the wire.
func readFrame(reader pcapReader) ([]byte, time.Time, error) {
	data, info, err := reader.ReadPacketData()
	if err != nil {
		return nil, time.Time{}, err
	}
	var link layers.LinkType
	switch r := reader.(type) {
	case *pcapgo.Reader:
		link = r.LinkType()
	case *pcapgo.NgReader:
		link = info.AncillaryData[0].(layers.LinkType)
	}
	if missing := min(info.Length, longestPacket) - info.CaptureLength; missing > 0 {
		data = append(data, make([]byte, missing)...)
	}
	frame, err := ethernetFrame(link, data)
	return frame, info.Timestamp, err
}

// Link types that have no name in layers (pcap-linktype(7)).
const (
	linkTypeRawElsewhere = layers.LinkType(12) // LINKTYPE_RAW on some systems
	linkTypeLinuxSLL2    = layers.LinkType(276)
)

// ethernetFrame puts a link header before a packet that was captured without, and in the place of the one that
// captures on all interfaces have.
func ethernetFrame(link layers.LinkType, data []byte) ([]byte, error) {
	switch link {
	case layers.LinkTypeEthernet:
		return data, nil
	case layers.LinkTypeLinuxSLL:
		return uncooked(data, 14, 16), nil
	case linkTypeLinuxSLL2:
		return uncooked(data, 0, 20), nil
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6, linkTypeRawElsewhere:
		etherType := layers.EthernetTypeIPv4
		if len(data) > 0 && data[0]>>4 == 6 {
			etherType = layers.EthernetTypeIPv6
		}
		return withHeader(etherType, data), nil
	}
	return nil, fmt.Errorf("its link type is %v, not Ethernet: capture on an interface that has Ethernet (tcpdump -i eth0)", link)
}

// uncooked replaces a header of so many bytes that has the packet's EtherType somewhere. Of less than a header
// nothing remains.
func uncooked(data []byte, etherType, header int) []byte {
	if len(data) < header {
		return nil
	}
	return withHeader(layers.EthernetType(binary.BigEndian.Uint16(data[etherType:])), data[header:])
}

// withHeader puts an Ethernet header without addresses before a packet.
func withHeader(etherType layers.EthernetType, packet []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 12), uint16(etherType)), packet...)
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
