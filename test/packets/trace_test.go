package packets

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// result is how one frame ended.
type result struct {
	Action, Reason, Service, Backend string
	Packet                           []byte
}

// tracer runs the balancer's program through the command that users have.
type tracer struct {
	binary string
}

func newTracer(t *testing.T) tracer {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/sluicelb/sluice/cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("building sluice: %v\n%s", err, out)
	}
	return tracer{binary}
}

// trace runs the frames through the program under a configuration, in order.
func (tr tracer) trace(t *testing.T, config string, frames [][]byte) []result {
	t.Helper()
	dir := t.TempDir()
	capture, manifest := filepath.Join(dir, "frames.pcap"), filepath.Join(dir, "services.yaml")
	must(os.WriteFile(capture, pcap(frames), 0o600))
	must(os.WriteFile(manifest, []byte(config), 0o600))
	command := exec.Command(tr.binary, "trace", "--pcap", capture, "--config", manifest, "-o", "json")
	var problem bytes.Buffer
	command.Stderr = &problem
	out, err := command.Output()
	if err != nil {
		t.Fatalf("sluice trace: %v\n%s", err, problem.Bytes())
	}
	var packets []struct {
		Action, Reason, Service, Backend, Packet string
	}
	if err := json.Unmarshal(out, &packets); err != nil {
		t.Fatalf("sluice trace printed no JSON: %v\n%s", err, out)
	}
	results := make([]result, len(packets))
	for i, p := range packets {
		frame, err := hex.DecodeString(p.Packet)
		if err != nil {
			t.Fatalf("frame %d: %v", i+1, err)
		}
		results[i] = result{p.Action, p.Reason, p.Service, p.Backend, frame}
	}
	return results
}
