//go:build vm

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/test/lab"
	"github.com/sluicelb/sluice/test/stage"
)

// asCommand makes a copy of the test's binary the command itself, for it has to run inside a host's namespace.
const asCommand = "SLUICE_TEST_PKTGEN"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// pktgen runs the command on a host and returns its rows.
func pktgen(t *testing.T, h *lab.Host, arguments string) []rows {
	t.Helper()
	t.Setenv(asCommand, "1")
	p, err := h.Command(t.Context(), os.Args[0], append(strings.Fields(arguments), "-o", "json")...)
	must(t, err)
	if err := p.Wait(); err != nil {
		t.Fatalf("pktgen %s: %v: %s", arguments, err, p.Output())
	}
	var all []rows
	for decoder := json.NewDecoder(strings.NewReader(p.Output())); decoder.More(); {
		var r rows
		must(t, decoder.Decode(&r))
		all = append(all, r)
	}
	return all
}

// rows is what the JSON has of a result.
type rows struct {
	Sent, Forwarded uint64
	Ends            map[string]uint64
}

// What arrives is what was asked for: so many packets, of so many flows, of that length, to that port.
func TestPackets(t *testing.T) {
	for _, c := range []struct {
		destination string
		ipv6        bool
		arguments   string
		packets     uint64
		flows       int
		size        uint32
	}{
		{"192.0.2.2:9", false, "--packets 100 --flows 1", 100, 1, 60},
		{"192.0.2.2:9", false, "--packets 3000 --flows 1000 --size 1514", 3000, 1000, 1514},
		{"192.0.2.2:9", false, "--packets 4001 --flows 2000 --threads 2 --size 100", 4001, 2000, 100},
		{"192.0.2.2:9", false, "--packets 80003 --flows 80003", 80003, 80003, 60},
		{"[2001:db8::2]:9", true, "--packets 1000 --flows 10", 1000, 10, 78},
		{"[2001:db8::2]:9", true, "--packets 1000 --flows 100 --threads 2 --size 500", 1000, 100, 500},
	} {
		t.Run(c.destination+" "+c.arguments, func(t *testing.T) {
			l := lab.ForTest(t)
			client, err := l.Host("client")
			must(t, err)
			server, err := l.Host("server")
			must(t, err)
			must(t, l.Connect(client, "eth0", server, "eth0", lab.LinkOptions{}))
			must(t, client.Addr("eth0", "192.0.2.1/24", "2001:db8::1/64"))
			must(t, server.Addr("eth0", "192.0.2.2/24", "2001:db8::2/64"))
			arrived := watch(t, server, c.ipv6)
			// Slow enough for the queue of a veth pair, which has room for 256 packets.
			all := pktgen(t, client, "--destination "+c.destination+" --rate 20000 "+c.arguments)
			if len(all) != 1 || all[0].Sent != c.packets {
				t.Fatalf("the rows are %+v, of %d packets", all, c.packets)
			}
			var f flow
			var n, sum uint64
			flows := 0
			for each := arrived.Iterate(); each.Next(&f, &n); flows++ {
				if sum += n; f.Length != c.size || f.Destination != [2]byte{0, 9} {
					t.Fatalf("a packet has %d bytes and is for port %d", f.Length, f.Destination)
				}
			}
			if sum != c.packets || flows != c.flows {
				t.Errorf("%d packets of %d flows arrived, not %d of %d", sum, flows, c.packets, c.flows)
			}
		})
	}
}

// flow is the key of what watch counts.
type flow struct {
	Source      [16]byte
	Port        [2]byte
	Destination [2]byte // port
	Length      uint32
}

// watch counts the UDP packets of each flow that arrives at a host.
func watch(t *testing.T, h *lab.Host, ipv6 bool) *ebpf.Map {
	t.Helper()
	protocol, source, words, ports := int16(23), int16(26), 1, int16(34) // in the frame; words of an address
	if ipv6 {
		protocol, source, words, ports = 20, 22, 4, 54
	}
	flows, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 24, ValueSize: 8, MaxEntries: 1 << 17})
	must(t, err)
	t.Cleanup(func() { flows.Close() })
	const key, value = -24, -32 // on the stack
	program := asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 0, asm.Word),
		asm.LoadMem(asm.R7, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R6), asm.Add.Imm(asm.R2, int32(ports)+4), asm.JGT.Reg(asm.R2, asm.R7, "pass"),
		asm.LoadMem(asm.R2, asm.R6, protocol, asm.Byte), asm.JNE.Imm(asm.R2, 17, "pass"),
		asm.Mov.Imm(asm.R2, 0),
		asm.StoreMem(asm.R10, key, asm.R2, asm.DWord), asm.StoreMem(asm.R10, key+8, asm.R2, asm.DWord),
	}
	for n := range words {
		offset := int16(4 * n)
		program = append(program, asm.LoadMem(asm.R2, asm.R6, source+offset, asm.Word), asm.StoreMem(asm.R10, key+offset, asm.R2, asm.Word))
	}
	program = append(program,
		asm.LoadMem(asm.R2, asm.R6, ports, asm.Word), asm.StoreMem(asm.R10, key+16, asm.R2, asm.Word),
		asm.Sub.Reg(asm.R7, asm.R6), asm.StoreMem(asm.R10, key+20, asm.R7, asm.Word),
		asm.LoadMapPtr(asm.R1, flows.FD()), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, key),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "new"),
		asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Ja.Label("drop"),
		asm.Mov.Imm(asm.R1, 1).WithSymbol("new"), asm.StoreMem(asm.R10, value, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, flows.FD()), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, key),
		asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, value), asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
		asm.Mov.Imm(asm.R0, 1 /* XDP_DROP */).WithSymbol("drop"), asm.Return(),
		asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */).WithSymbol("pass"), asm.Return(),
	)
	counter, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: program, License: "MIT"})
	must(t, err)
	t.Cleanup(func() { counter.Close() })
	must(t, h.Do(func() error {
		eth0, err := h.Netlink().LinkByName("eth0")
		must(t, err)
		xdp, err := link.AttachXDP(link.XDPOptions{Program: counter, Interface: eth0.Attrs().Index, Flags: link.XDPDriverMode})
		must(t, err)
		t.Cleanup(func() { xdp.Close() })
		return nil
	}))
	return flows
}

// Sluice's own counters say what became of the packets.
func TestAgainstSluice(t *testing.T) {
	s, err := stage.New("sluice-test")
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	var hosts [3]*lab.Host
	for n, name := range []string{"client", "balancer", "backend"} {
		hosts[n], err = s.Host(name)
		must(t, err)
	}
	client, balancer, backend := hosts[0], hosts[1], hosts[2]
	must(t, s.Connect(client, "eth0", balancer, "clients", lab.LinkOptions{}))
	must(t, s.Connect(balancer, "backends", backend, "eth0", lab.LinkOptions{}))
	must(t, client.Addr("eth0", "198.51.100.2/24"))
	must(t, balancer.Addr("clients", "198.51.100.1/24"))
	must(t, balancer.Addr("backends", "203.0.113.1/24"))
	must(t, backend.Addr("eth0", "203.0.113.11/24"))
	must(t, client.Route("192.0.2.0/24", "198.51.100.1"))
	arrived := watch(t, backend, false)
	must(t, s.StartDaemon(t.Context(), balancer, os.Getenv("SLUICE_BINARY"), "clients,backends"))
	m, err := control.ParseManifest("services.yaml", []byte(`services:
- {name: discard, address: 192.0.2.10:9, protocol: udp, mode: l2, probe: {type: none}, backends: [{address: 203.0.113.11}]}
`))
	must(t, err)
	must(t, s.Apply(t.Context(), m.Services, time.Minute, func(status control.Status) error {
		for _, b := range status.Services[0].Backends {
			if !b.NextHop.Resolved {
				return fmt.Errorf("backend %s: %s", b.Name, b.NextHop.Reason)
			}
		}
		return nil
	}))
	const load = " --packets 2000 --flows 100 --rate 5000 --metrics http://198.51.100.1:9433/metrics"
	all := pktgen(t, client, "--destination 192.0.2.10:9 --size 60,1000"+load)
	for _, r := range all {
		if r.Sent != 2000 || r.Forwarded != 2000 || slices.ContainsFunc(slices.Collect(maps.Keys(r.Ends)), isDrop) {
			t.Errorf("a row is %+v", r)
		}
	}
	var f flow
	var n, sum uint64
	for each := arrived.Iterate(); each.Next(&f, &n); {
		sum += n
	}
	if len(all) != 2 || sum != 4000 {
		t.Errorf("%d packets of %d rows arrived", sum, len(all))
	}
	all = pktgen(t, client, "--destination 192.0.2.10:10"+load)            // the balancer's kernel has no way for them
	if r := all[0]; r.Forwarded != 0 || r.Ends["pass_no_service"] < 2000 { // the hosts' own packets are counted too
		t.Errorf("without a service the row is %+v", r)
	}
}

func isDrop(reason string) bool { return strings.HasPrefix(reason, "drop_") }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
