package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/dataplane"
)

func TestTraceWrongCommandLine(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.file("empty", "")
	s.file("short.pcap", "\xd4\xc3\xb2\xa1\x02\x00")
	s.file("services.yaml", "services: [{address: 10.0.0.1}]\n")
	s.file("wrong.yaml", "services: [{adress: 10.0.0.1}]\n")
	s.run("trace")
	s.run("trace 192.0.2.7:40000")
	s.run("trace 192.0.2.7 web")
	s.run("trace 192.0.2.7:40000 web --proto icmp")
	s.run("trace 192.0.2.7:40000 web --config $DIR/services.yaml")
	s.run("trace 192.0.2.7:40000 web -o pcap")
	s.run("trace 192.0.2.7:40000 web --pcap $DIR/empty")
	s.run("trace --pcap $DIR/nowhere --config $DIR/services.yaml")
	s.run("trace --pcap $DIR/empty --config $DIR/services.yaml")
	s.run("trace --pcap $DIR/short.pcap --config $DIR/services.yaml")
	s.run("trace --pcap $DIR/empty --proto tcp")
	s.run("trace --pcap $DIR/empty --config $DIR/services.yaml --interface eth0")
	s.file("web.pcap", string(testCapture(t, layers.LinkTypeEthernet)))
	s.run("trace --pcap $DIR/web.pcap --config $DIR/nowhere.yaml")
	s.run("trace --pcap $DIR/web.pcap --config $DIR/wrong.yaml")
	s.file("wifi.pcap", string(testCapture(t, layers.LinkTypeIEEE802_11)))
	s.run("trace --pcap $DIR/wifi.pcap --config $DIR/services.yaml")
	s.golden()
}

func TestCaptureWrongCommandLine(t *testing.T) {
	s := sessionWithoutDaemon(t)
	s.run("capture")
	s.run("capture now -w $DIR/x.pcap")
	s.run("capture -w $DIR/nowhere/x.pcap")
	s.run("capture -w $DIR/x.pcap --every many")
	s.run("capture -w $DIR/x.pcap --for 10")
	s.run("capture -w $DIR/x.pcap")
	s.golden()
}

// packetOf is a SYN, with a link header.
func packetOf(t *testing.T, destination string) []byte {
	t.Helper()
	link := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: []byte{2, 0, 0, 0, 0, 9}, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: []byte{192, 0, 2, 7}, DstIP: parseIPv4(destination)}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, link, ip, tcp); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func parseIPv4(text string) []byte {
	address, _, _ := control.ParseAddress(text)
	return address.AsSlice()
}

// testCapture holds two packets, the second one cut short.
func testCapture(t *testing.T, link layers.LinkType) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, link); err != nil {
		t.Fatal(err)
	}
	for i, destination := range []string{"10.0.0.1", "10.0.0.2"} {
		frame := packetOf(t, destination)
		if link == layers.LinkTypeRaw {
			frame = frame[14:]
		}
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(frame), Length: len(frame)}
		if i == 1 {
			info.CaptureLength -= 4
			frame = frame[:info.CaptureLength]
		}
		if err := w.WritePacket(info, frame); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

const offlineManifest = `services:
- {name: web, address: "10.0.0.1:80", mode: l2, backends: [{name: one, address: 10.1.0.1, mac: "02:00:00:00:00:01"}]}
- {name: other, address: "10.0.0.2:80", mode: ipip, backends: [{name: two, address: 10.1.0.2}]}
`

// Captures of each kind of link are traced against a manifest alone, in every format of output.
func TestTraceOffline(t *testing.T) {
	for _, link := range []layers.LinkType{layers.LinkTypeEthernet, layers.LinkTypeRaw} {
		s := sessionWithoutDaemon(t)
		s.file("capture.pcap", string(testCapture(t, link)))
		s.file("services.yaml", offlineManifest)
		var traced []control.TracedPacket
		if err := json.Unmarshal([]byte(s.run("trace --pcap $DIR/capture.pcap --config $DIR/services.yaml -o json")), &traced); err != nil {
			t.Fatal(err)
		}
		if len(traced) != 2 || traced[0].Action != "tx" || traced[0].Backend != "one" || traced[1].Reason != "drop_next_hop_unresolved" || traced[1].Service != "other" {
			t.Errorf("%s: traced as %+v", link, traced)
		}
		out := s.run("trace --pcap $DIR/capture.pcap --config $DIR/services.yaml -o pcap")
		reader, err := pcapgo.NewReader(bytes.NewReader([]byte(out)))
		if err != nil {
			t.Fatal(err)
		}
		frame, info, err := reader.ReadPacketData()
		if err != nil || !bytes.Equal(frame[:6], []byte{2, 0, 0, 0, 0, 1}) || !info.Timestamp.Equal(time.Unix(0, 0)) {
			t.Errorf("%s: %x at %s, %v", link, frame, info.Timestamp, err)
		}
		if _, _, err := reader.ReadPacketData(); err == nil {
			t.Errorf("%s: the packet that was dropped leaves", link)
		}
		if link == layers.LinkTypeEthernet {
			s.transcript.Reset()
			s.run("trace --pcap $DIR/capture.pcap --config $DIR/services.yaml")
			s.golden()
		}
	}
}

// What people see of an explanation.
func TestExplanationView(t *testing.T) {
	client, service := netip.MustParseAddrPort("192.0.2.7:40000"), netip.MustParseAddrPort("10.0.0.1:80")
	base := control.Explanation{
		Client: client, Service: "web", Destination: service, Protocol: dataplane.ProtocolTCP, Action: "redirect", Reason: "to_backend",
		Backend: "one", Place: "10.1.0.1:8080", NextHop: dataplane.NextHop{Resolved: true, Interface: "eth1"},
	}
	p := &page{}
	show := func(change func(*control.Explanation)) {
		e := base
		change(&e)
		p.explanation(&e)
	}
	for _, hash := range []string{"flow", "source", "source/24", "no-source-port", "destination-port"} {
		show(func(e *control.Explanation) {
			e.Cause, e.Hash, e.Slot, e.Slots, e.HashOf = dataplane.CauseSlot, 0xbeef, 7, 251, hash
		})
	}
	show(func(e *control.Explanation) { e.Cause, e.Mode = dataplane.CauseFlow, dataplane.ModeGUE })
	show(func(e *control.Explanation) { e.Cause, e.Set = dataplane.CauseAssociation, "canary" })
	show(func(e *control.Explanation) {
		e.Reason, e.Action, e.NextHop = "drop_next_hop_unresolved", "drop", dataplane.NextHop{Reason: "no route to 10.1.0.1"}
	})
	show(func(e *control.Explanation) { e.Reason, e.Action, e.Backend = "drop_denied", "drop", "" })
	golden(t, p.String())
}
