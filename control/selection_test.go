package control

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sluicelb/sluice/dataplane"
)

// Each mistake in what chooses a backend is told with its field and what is allowed.
func TestSelectionErrors(t *testing.T) {
	service := func(more string) string { return "{address: \"10.0.0.1:80\", " + more + "}" }
	udp := func(more string) string { return service("protocol: udp, " + more) }
	for name, test := range map[string]struct{ text, want string }{
		"sctp in nat":            {service("protocol: sctp"), `mode: nat does not know sctp`},
		"hash":                   {service("hash: random"), `"random" is no hash (known: flow, source, no-source-port, destination-port)`},
		"hash of a long prefix":  {service("hash: source/33"), `hash: source/33: a prefix of 10.0.0.1 has at most 32 bits`},
		"hash of no prefix":      {service("hash: source/0"), `"source/0" is no hash`},
		"prefix of another hash": {service("hash: flow/24"), `"flow/24" is no hash`},
		"mss":                    {service("clamp-mss: 535"), `"535" is no maximum segment size (known: off, auto, 536..65534)`},
		"mss of udp":             {udp("clamp-mss: auto"), `clamp-mss: is for tcp services, and this one is udp`},
		"tracking":               {service("tracking: some"), `"some" is no tracking (known: default, full, just-enough, none)`},
		"tracking of udp":        {udp("mode: l2, tracking: none"), `tracking: none is for tcp services, and this one is udp`},
		"tracking in nat":        {service("mode: nat, tracking: just-enough"), `tracking: mode nat remembers every flow, so it cannot be just-enough`},
		"policy":                 {service("policy: random"), `"random" is no policy (known: maglev, p2c)`},
		"policy of udp":          {udp("policy: p2c"), `policy: p2c is for tcp services, and this one is udp`},
		"policy without flows":   {service("mode: l2, policy: p2c, tracking: none"), `policy: p2c remembers flows, so tracking cannot be none`},
		"quic of tcp":            {service("quic: {config: 0, server-id-length: 4}"), `quic is for udp services`},
		"quic config":            {udp("quic: {config: 7, server-id-length: 4}"), `quic: config: 7 is not within 0..6`},
		"quic length":            {udp("quic: {config: 1}"), `quic: server-id-length: 0 is not within 1..15`},
		"quic long length":       {udp("quic: {config: 1, server-id-length: 16}"), `quic: server-id-length: 16 is not within 1..15`},
		"server ID without quic": {udp("backends: [{address: 10.1.0.1, server-id: cafe}]"), `backends[0]: server-id: is for services with quic`},
		"server ID's length":     {udp("quic: {server-id-length: 4}, backends: [{address: 10.1.0.1, server-id: cafe}]"), `cafe has 2 bytes, not the 4`},
		"server ID":              {udp("quic: {server-id-length: 4}, backends: [{address: 10.1.0.1, server-id: coffee}]"), `"coffee" is no server ID`},
		"same server ID":         {udp("quic: {server-id-length: 1}, backends: [{address: 10.1.0.1, server-id: aa}, {address: 10.1.0.2, server-id: AA}]"), `backends[1]: server-id: aa is also that of backends[0]`},
		"limit":                  {service("limit: {burst: 3}"), `limit: rate: 0 is not within 1..1000000`},
		"limit's rate":           {service("limit: {rate: 1000001}"), `limit: rate: 1000001 is not within`},
		"limit's burst":          {service("limit: {rate: 1, burst: 1000001}"), `limit: burst: 1000001 is not within`},
		"limit's prefix":         {service("limit: {rate: 1, prefix: 33}"), `limit: prefix: 33 is more than the 32 bits`},
		"source":                 {service("sources: [{prefix: 10.0.0.0, deny: true}]"), `sources[0]: prefix: `},
		"source of no prefix":    {service("sources: [{deny: true}]"), `sources[0]: prefix: is missing`},
		"source's family":        {service("sources: [{prefix: \"2001:db8::/32\", deny: true}]"), `is not of the family`},
		"source's bits":          {service("sources: [{prefix: 10.0.0.1/8, deny: true}]"), `10.0.0.1/8 has bits set behind its length: write 10.0.0.0/8`},
		"source twice":           {service("sources: [{prefix: 10.0.0.0/8, deny: true}, {prefix: 10.0.0.0/8}]"), `sources[1]: prefix: 10.0.0.0/8 is also that of sources[0]`},
		"source to nothing":      {service("sources: [{prefix: 10.0.0.0/8, set: canary}]"), `no backend has the set "canary"`},
		"source of both kinds":   {service("sources: [{prefix: 10.0.0.0/8, set: canary, deny: true}]"), `set: contradicts deny`},
		"deny":                   {service("sources: [{prefix: 10.0.0.0/8, deny: maybe}]"), `is not true or false`},
		"set":                    {service("backends: [{address: 10.1.0.1, set: Canary}]"), `"Canary" is no name`},
		"mac":                    {service("backends: [{address: 10.1.0.1, mac: \"01:00:5e:00:00:01\"}]"), `"01:00:5e:00:00:01" is no unicast Ethernet address`},
		"EUI-64":                 {service("backends: [{address: 10.1.0.1, mac: \"02:00:00:00:00:00:00:01\"}]"), `is no unicast Ethernet address`},
		"too many sources":       {service("sources: [" + manySources(1025) + "]"), `1025 rules are more than 1024`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseManifest("test.yaml", []byte("services: ["+test.text+"]"))
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, ErrInvalid) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
		})
	}
}

func manySources(n int) string {
	rules := make([]string, n)
	for i := range rules {
		rules[i] = fmt.Sprintf("{prefix: 10.%d.%d.0/24, deny: true}", i>>8, i&255)
	}
	return strings.Join(rules, ", ")
}

const choosy = `services:
  - name: quic
    address: 10.0.0.1:443
    protocol: udp
    mode: gue
    hash: source/24
    quic: {config: 6, server-id-length: 15}
    limit: {rate: 1000000, burst: 1000000, prefix: 32}
    sources: [{prefix: 192.0.2.0/24, deny: true}, {prefix: 192.0.2.7/32}, {prefix: 0.0.0.0/0, set: canary}]
    backends:
      - {address: 10.1.0.1, server-id: 000102030405060708090a0b0c0d0e, mac: "02-00-00-00-00-01"}
      - {address: "2001:db8::1", set: canary}
  - {name: mss, address: 10.0.0.1:80, clamp-mss: 65534, hash: destination-port, policy: p2c, tracking: full}
  - {name: sctp, address: 10.0.0.1, protocol: sctp, mode: l2, hash: no-source-port}
`

// What chooses a backend goes from the file to the kernel and back to a file.
func TestSelection(t *testing.T) {
	r := testRules()
	m := apply(t, r, Manifest{}, parse(t, choosy), false)
	text, err := m.MarshalYAML()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.apply(&m, ApplyRequest{Services: parse(t, string(text)).Services}); err != nil || len(again.Changes) > 0 {
		t.Errorf("applying what was exported changes %v, %v:\n%s", again.Changes, err, text)
	}
	i, err := m.find("quic")
	if err != nil {
		t.Fatal(err)
	}
	s := &m.Services[i]
	e := s.evaluate(groups(nil).judgement(s))
	got := fmt.Sprintln(e.service.Hash, e.service.QUIC, e.service.Limit, e.service.Sources, e.service.Backends[0].ServerID, e.service.Backends[1].Set)
	if i, err = m.find("mss"); err != nil {
		t.Fatal(err)
	}
	if s := m.Services[i].evaluate(groups(nil).judgement(&m.Services[i])).service; s.Policy != dataplane.PolicyP2C || s.Tracking != dataplane.TrackingFull {
		t.Errorf("the kernel is told policy %s and tracking %s", s.Policy, s.Tracking)
	}
	if want := "source/24 6/15 1000000/s burst 1000000 prefix 32 [192.0.2.0/24=deny 192.0.2.7/32= 0.0.0.0/0=canary] 000102030405060708090a0b0c0d0e canary\n"; got != want {
		t.Errorf("the kernel is told\n%s, want\n%s", got, want)
	}
}

// A patch changes what it names, and takes off what it names as nothing.
func TestSelectionPatch(t *testing.T) {
	r := rules{defaults: builtinDefaults, limits: dataplane.DefaultLimits}
	m := apply(t, r, Manifest{}, parse(t, choosy), false)
	before := m.clone()
	patched, err := r.update(&m, "quic", ServicePatch{
		Hash: new(dataplane.Hash), Limit: new(dataplane.Limit), Sources: &[]dataplane.SourceRule{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if patched.QUIC.ServerIDLength != 15 || len(patched.Sources) != 0 {
		t.Errorf("patched to %+v", patched.Selection)
	}
	changes := difference(before.Services, m.Services)
	want := "hash source/24 -> flow, limit 1000000/s burst 1000000 prefix 32 -> off, source 192.0.2.0/24=deny removed, source 192.0.2.7/32= removed, source 0.0.0.0/0=canary removed"
	if len(changes) != 1 || changes[0].Detail != want {
		t.Errorf("the change reads %+v, want %s", changes, want)
	}
	before = m.clone()
	if _, err := r.update(&m, "mss", ServicePatch{Policy: new(dataplane.Policy), Tracking: new(dataplane.Tracking)}); err != nil {
		t.Fatal(err)
	}
	if changes := difference(before.Services, m.Services); len(changes) != 1 || changes[0].Detail != "policy p2c -> maglev, tracking full -> default" {
		t.Errorf("the change reads %+v", changes)
	}
	if _, err := r.update(&m, "quic", ServicePatch{QUIC: new(dataplane.QUIC)}); err == nil || !strings.Contains(err.Error(), "server-id: is for services with quic") {
		t.Errorf("taking quic from under a server ID: %v", err)
	}
	if _, err := r.updateBackend(&m, "quic", "10.1.0.1", BackendPatch{ServerID: new(dataplane.ServerID("short"))}); err == nil {
		t.Error("a server ID of the wrong length is taken")
	}
	if b, err := r.updateBackend(&m, "quic", "10.1.0.1", BackendPatch{ServerID: new(dataplane.ServerID), Set: new("blue")}); err != nil || b.Set != "blue" || b.ServerID != "" {
		t.Errorf("the backend is %+v, %v", b, err)
	}
}
