package dataplane

import (
	"encoding/binary"
	"net/netip"
)

// dissected is a frame as the fuzz tests understand it, written apart from everything else that parses.
type dissected struct {
	ok             bool   // it holds an IP packet with right lengths
	packet         []byte // the IP packet, without padding
	rest           []byte // the packet and what follows it
	header         int    // bytes of the IP header, without extension headers
	source, target netip.Addr
	protocol       uint8
	fragment       bool
}

func dissect(frame []byte) (d dissected) {
	offset := 12
	for range 2 {
		if len(frame) >= offset+6 && (binary.BigEndian.Uint16(frame[offset:]) == 0x8100 || binary.BigEndian.Uint16(frame[offset:]) == 0x88a8) {
			offset += 4
		}
	}
	if len(frame) < offset+2 {
		return d
	}
	d.rest = frame[offset+2:]
	switch binary.BigEndian.Uint16(frame[offset:]) {
	case 0x0800:
		d.dissect4()
	case 0x86dd:
		d.dissect6()
	}
	return d
}

func (d *dissected) dissect4() {
	b := d.rest
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	d.header = int(b[0]&15) * 4
	if d.header < 20 || length < d.header || length > len(b) {
		return
	}
	d.ok, d.packet, d.protocol = true, b[:length], b[9]
	d.source, d.target = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	d.fragment = binary.BigEndian.Uint16(b[6:])&0x3fff != 0
}

func (d *dissected) dissect6() {
	b := d.rest
	if len(b) < 40 || b[0]>>4 != 6 {
		return
	}
	length := 40 + int(binary.BigEndian.Uint16(b[4:]))
	if length > len(b) {
		return
	}
	d.ok, d.packet, d.protocol, d.header = true, b[:length], b[6], 40
	d.source, d.target = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
}

// frame is the packet with the padding behind it.
func (d *dissected) frame() []byte { return d.rest }

// checksumPlace returns where in the packet the checksum of its transport header is, 0 for one that this does not
// know or that has none.
func (d *dissected) checksumPlace() int {
	place, least := 0, 0
	switch {
	case d.fragment:
		return 0
	case d.protocol == 6:
		place, least = 16, 20
	case d.protocol == 17:
		place, least = 6, 8
	case d.protocol == 1 && d.source.Is4(), d.protocol == 58 && d.source.Is6():
		place, least = 2, 8
	default:
		return 0
	}
	if len(d.packet) < d.header+least {
		return 0
	}
	return d.header + place
}

// sum is the Internet checksum of the transport header and what follows, with the pseudo header where there is one;
// 0 or 0xffff when it is right.
func (d *dissected) sum() uint16 {
	payload := d.packet[d.header:]
	sum := uint64(0)
	add := func(b []byte) {
		for ; len(b) > 1; b = b[2:] {
			sum += uint64(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint64(b[0]) << 8
		}
	}
	add(payload)
	if d.protocol != 1 {
		add(d.source.AsSlice())
		add(d.target.AsSlice())
		sum += uint64(len(payload)) + uint64(d.protocol)
	}
	return folded(sum)
}

func folded(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func headerSum(header []byte) uint16 {
	sum := uint64(0)
	for ; len(header) > 1; header = header[2:] {
		sum += uint64(binary.BigEndian.Uint16(header))
	}
	return folded(sum)
}

// valid tells whether all checksums are right.
func (d *dissected) valid() bool {
	if !d.ok || d.source.Is4() && headerSum(d.packet[:d.header]) != 0 {
		return false
	}
	place := d.checksumPlace()
	if place == 0 || d.protocol == 17 && binary.BigEndian.Uint16(d.packet[place:]) == 0 {
		return true
	}
	return d.sum() == 0
}

// mayBeClamped tells whether the packet is a SYN, whose MSS some services lower.
func (d *dissected) mayBeClamped() bool {
	// Behind extension headers too: any TCP may be there.
	return d.protocol == 6 && len(d.packet) > d.header+13 && d.packet[d.header+13]&2 != 0 || d.source.Is6() && d.protocol != 17 && d.protocol != 6
}

// repair returns a copy of the frame with right lengths and checksums, as far as it holds an IP packet.
func repair(frame []byte) []byte {
	frame = append([]byte(nil), frame...)
	d := dissect(frame)
	switch b := d.rest; {
	case len(b) >= 20 && len(b) < 1<<16 && b[0]>>4 == 4:
		b[0] = max(b[0], 0x45)
		if len(b) < int(b[0]&15)*4 {
			b[0] = 0x45
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], headerSum(b[:int(b[0]&15)*4]))
	case len(b) >= 40 && b[0]>>4 == 6:
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	}
	d = dissect(frame)
	if place := d.checksumPlace(); d.ok && place != 0 {
		d.packet[place], d.packet[place+1] = 0, 0
		sum := d.sum()
		if sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(d.packet[place:], sum)
	}
	return frame
}
