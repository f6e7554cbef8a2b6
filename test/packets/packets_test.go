// Package packets is a corpus of captures: frames of every mode, family and protocol, and of every oddity that
// a network brings, each with its expected end.
//
// A group of cases is stored in testdata as three files: the frames (.pcap), the services (.yaml, as sluice
// apply reads them) and how each frame ends (.json). They are built by code that knows the protocols and not
// the program: what should come out never was the program's output. After a change of that code
//
//	go test ./test/packets -update
//
// writes the files anew. One group can be looked at by hand:
//
//	sluice trace --pcap testdata/modes.pcap --config testdata/modes.yaml
package packets

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

// corpus is every group.
func corpus() []*group {
	return []*group{
		modes(), translation(), linkHeaders(), ipv4Oddities(), ipv6Oddities(), extensionHeaders(), transportOddities(),
		trafficClasses(), sizes(), echoes(), errors4(), errors6(), errorsInNAT(), noBackends(), everyPort(),
		fragments4(), fragments6(), segmentSizes(), associations(), connectionIDs(), sources(), limits(), hashes(),
	}
}

// What is stored is what the code builds, and there is enough of it.
func TestStored(t *testing.T) {
	cases := 0
	known := map[string]bool{}
	for _, g := range corpus() {
		cases += len(g.Cases)
		for name, content := range g.files() {
			known[name] = true
			if *update {
				must(os.MkdirAll("testdata", 0o755))
				must(os.WriteFile(name, content, 0o644))
			}
			if stored, err := os.ReadFile(name); err != nil {
				t.Error(err)
			} else if !bytes.Equal(stored, content) {
				t.Errorf("%s is not what the code builds: go test ./test/packets -update writes it anew", name)
			}
		}
	}
	files, err := os.ReadDir("testdata")
	must(err)
	for _, f := range files {
		if !known["testdata/"+f.Name()] {
			t.Errorf("testdata/%s belongs to no group", f.Name())
		}
	}
	if cases < 150 {
		t.Errorf("%d cases, expected at least 150", cases)
	}
	t.Logf("%d cases in %d groups", cases, len(corpus()))
}

// The frames are what they are meant to be: a decoder understands them and their checksums are right, unless
// their case says otherwise.
func TestFrames(t *testing.T) {
	for _, g := range loaded(t) {
		for i := range g.Cases {
			c := &g.Cases[i]
			if err := c.decodes(c.frame); err != nil {
				t.Errorf("%s: %s: frame: %v", g.Name, c.Name, err)
			}
			for backend, text := range c.Frames {
				if err := c.decodes(unhex(text)); err != nil {
					t.Errorf("%s: %s: expected frame of %q: %v", g.Name, c.Name, backend, err)
				}
			}
		}
	}
}

// Every frame ends as expected.
func TestCorpus(t *testing.T) {
	for _, g := range loaded(t) {
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel() // most of the time goes to loading programs
			results := g.run(t)
			for i := range g.Cases {
				c := &g.Cases[i]
				t.Run(c.Name, func(t *testing.T) {
					if err := c.check(c.frame, results[i]); err != nil {
						t.Error(err)
					} else if err := g.checkLike(c, results); err != nil {
						t.Error(err)
					}
				})
			}
			g.checkSpread(t, results)
			g.checkPorts(t, results)
		})
	}
}

func loaded(t *testing.T) []*group {
	t.Helper()
	var all []*group
	for _, g := range corpus() {
		stored, err := load(g.Name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, stored)
	}
	return all
}

// run runs the group's frames, a second time when some need ports that only the first run tells.
func (g *group) run(t *testing.T) []result {
	t.Helper()
	results := g.trace(t)
	if !slices.ContainsFunc(g.Cases, func(c testCase) bool { return c.Learn != nil }) {
		return results
	}
	for i := range g.Cases {
		c := &g.Cases[i]
		if c.Learn == nil {
			continue
		}
		source := g.index(c.Learn.Case)
		port := g.Cases[source].natPort(results[source].Packet)
		for _, f := range c.Learn.Fields {
			f.put(c.frame, port)
		}
	}
	return g.trace(t)
}

func (g *group) trace(t *testing.T) []result {
	t.Helper()
	results := trace(t, g.Config, g.frames())
	if len(results) != len(g.Cases) {
		t.Fatalf("%d results for %d frames", len(results), len(g.Cases))
	}
	return results
}

// index finds a case by its name.
func (g *group) index(name string) int {
	i := slices.IndexFunc(g.Cases, func(c testCase) bool { return c.Name == name })
	if i < 0 {
		panic(g.Name + " has no case " + name)
	}
	return i
}
