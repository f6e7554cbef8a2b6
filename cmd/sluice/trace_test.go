package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	s.run("trace --pcap - --config -")
	s.run("trace --pcap $DIR --config $DIR/services.yaml")
	s.run("trace --pcap $DIR/web.pcap --config=")
	s.run("trace --pcap= --config $DIR/services.yaml")
	s.run("trace 192.0.2.7:40000 web --port 0")
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
	if _, err := os.Stat(filepath.Join(s.dir, "x.pcap")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a capture that did not begin leaves a file: %v", err)
	}
	s.file("before.pcap", "from yesterday")
	s.run("capture -w $DIR/before.pcap")
	if held, err := os.ReadFile(filepath.Join(s.dir, "before.pcap")); err != nil || string(held) != "from yesterday" {
		t.Errorf("a capture that did not begin overwrites a file: %q, %v", held, err)
	}
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

// captureOf holds packets as records of the classic format, with the link type.
func captureOf(t *testing.T, link layers.LinkType, packets ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if err := w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(p), Length: len(p)}, p); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// mixedCapture is in the newer format, of an interface with Ethernet and one without any link header.
func mixedCapture(t *testing.T, ethernet, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.AddInterface(pcapgo.NgInterface{LinkType: layers.LinkTypeRaw})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range [][]byte{raw, ethernet, raw} {
		info := gopacket.CaptureInfo{CaptureLength: len(p), Length: len(p), InterfaceIndex: second * ((i + 1) % 2)}
		if err := w.WritePacket(info, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Each record of a capture is answered, in its place, whatever link it is from; of one that breaks off, what is
// whole.
func TestTraceEveryRecord(t *testing.T) {
	frame := packetOf(t, "10.0.0.1")
	packet := frame[14:]
	cooked := append([]byte{0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 7, 0, 0, 8, 0}, packet...)
	cooked2 := append([]byte{8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 7, 0, 0}, packet...)
	three := captureOf(t, layers.LinkTypeEthernet, frame, frame, frame)
	lying := captureOf(t, layers.LinkTypeEthernet, frame)
	binary.LittleEndian.PutUint32(lying[24+12:], 0xffffffff) // of 24 bytes of header, and the record's length
	for name, test := range map[string]struct {
		capture []byte
		reasons []string
		broken  bool
	}{
		"nothing":           {captureOf(t, layers.LinkTypeEthernet), nil, false},
		"no bytes":          {nil, nil, true},
		"mixed":             {mixedCapture(t, frame, packet), []string{"to_backend", "to_backend", "to_backend"}, false},
		"cooked":            {captureOf(t, layers.LinkTypeLinuxSLL, cooked, cooked[:9]), []string{"to_backend", "pass_not_seen"}, false},
		"cooked, version 2": {captureOf(t, linkTypeLinuxSLL2, cooked2), []string{"to_backend"}, false},
		"empty records":     {captureOf(t, layers.LinkTypeEthernet, nil, frame), []string{"pass_not_seen", "to_backend"}, false},
		"broken off":        {three[:len(three)-7], []string{"to_backend", "to_backend"}, true},
		"broken off early":  {three[:30], nil, true},
		"a length of 4 GiB": {lying, []string{"pass_not_seen"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := sessionWithoutDaemon(t)
			s.file("a.pcap", string(test.capture))
			s.file("services.yaml", offlineManifest)
			out := s.run("trace --pcap $DIR/a.pcap --config $DIR/services.yaml -o json")
			if broken := strings.Contains(s.transcript.String(), "exit code 6\n"); broken != test.broken {
				t.Errorf("broken: %t, want %t:\n%s", broken, test.broken, s.transcript.String())
			}
			traced := []control.TracedPacket{}
			if err := json.Unmarshal([]byte(cmp.Or(out, "[]")), &traced); err != nil || traced == nil {
				t.Fatalf("%v in %s", err, out)
			}
			var reasons []string
			for i, p := range traced {
				reasons = append(reasons, p.Reason)
				if p.N != i+1 {
					t.Errorf("packet %d has the number %d", i+1, p.N)
				}
			}
			if !slices.Equal(reasons, test.reasons) {
				t.Errorf("they end as %q, want %q", reasons, test.reasons)
			}
		})
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
	show(func(e *control.Explanation) { e.Cause, e.Slot, e.Slots = dataplane.CausePrevious, 7, 251 })
	show(func(e *control.Explanation) { e.Cause, e.Slot, e.Slots = dataplane.CauseSecond, 9, 251 })
	show(func(e *control.Explanation) { e.Cause, e.Set = dataplane.CauseAssociation, "canary" })
	show(func(e *control.Explanation) {
		e.Reason, e.Action, e.NextHop = "drop_next_hop_unresolved", "drop", dataplane.NextHop{Reason: "no route to 10.1.0.1"}
	})
	show(func(e *control.Explanation) { e.Reason, e.Action, e.Backend = "drop_denied", "drop", "" })
	golden(t, p.String())
}
