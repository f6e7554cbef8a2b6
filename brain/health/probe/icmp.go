package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// echoNonce is the length in bytes of the data of an echo request. Raw sockets get the answers to everybody's requests;
// by the data, random like the identifier and the sequence number, a probe knows its own.
const echoNonce = 16

// echoVariant is ICMP of one family.
type echoVariant struct {
	network        string
	protocol       int // as IP numbers it
	request, reply icmp.Type
}

func prepareICMP(_ Spec, to netip.AddrPort) (exchange, *FieldError) {
	v := &echoVariant{"ip4:icmp", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	if to.Addr().Is6() {
		v = &echoVariant{"ip6:ipv6-icmp", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
	}
	return v.probe, nil
}

func (v *echoVariant) probe(ctx context.Context, p *Prober) error {
	conn, err := p.via.Dial(ctx, v.network, p.to)
	if err != nil {
		return &Failure{"connect", err}
	}
	defer conn.Close()
	echo := newEcho()
	// The kernel fills in the checksum of ICMPv6 (RFC 3542, section 3.1).
	request, err := (&icmp.Message{Type: v.request, Body: echo}).Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return &Failure{"send", err}
	}
	buffer := make([]byte, 1500)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return &Failure{"", err}
		}
		if v.answers(buffer[:n], echo) {
			return nil
		}
	}
}

func newEcho() *icmp.Echo {
	random := make([]byte, 4+echoNonce)
	rand.Read(random)
	return &icmp.Echo{
		ID:   int(binary.BigEndian.Uint16(random)),
		Seq:  int(binary.BigEndian.Uint16(random[2:])),
		Data: random[4:],
	}
}

// answers reads what a raw socket got: with the IP header for IPv4, without for IPv6 (raw(7); RFC 3542, section 3).
func (v *echoVariant) answers(packet []byte, asked *icmp.Echo) bool {
	if v.request == ipv4.ICMPTypeEcho {
		header, err := icmp.ParseIPv4Header(packet)
		if err != nil || header.Len > len(packet) {
			return false
		}
		packet = packet[header.Len:]
	}
	message, err := icmp.ParseMessage(v.protocol, packet)
	if err != nil || message.Type != v.reply {
		return false
	}
	echo, ok := message.Body.(*icmp.Echo)
	return ok && echo.ID == asked.ID && echo.Seq == asked.Seq && bytes.Equal(echo.Data, asked.Data)
}
