package packets

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// sluice returns the path of the command: what SLUICE_BINARY names, or built once. TestMain removes it.
var sluice = sync.OnceValues(func() (string, error) {
	if binary := os.Getenv("SLUICE_BINARY"); binary != "" {
		return binary, nil
	}
	dir, err := os.MkdirTemp("", "sluice-packets-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "sluice")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/sluicelb/sluice/cmd/sluice").CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("building sluice: %w\n%s", err, out), os.RemoveAll(dir))
	}
	built = dir
	return binary, nil
})

// built is the directory of the built command, if any.
var built string

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		must(os.RemoveAll(built))
	}
	os.Exit(code)
}

// result is how one frame ended.
type result struct {
	Action, Reason, Service, Backend string
	Packet                           []byte
}

// trace runs the frames through the balancer's program under a configuration, in order: through the command
// that users have.
func trace(t *testing.T, config string, frames [][]byte) []result {
	t.Helper()
	binary, err := sluice()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	capture, manifest := filepath.Join(dir, "frames.pcap"), filepath.Join(dir, "services.yaml")
	must(os.WriteFile(capture, pcap(frames), 0o600))
	must(os.WriteFile(manifest, []byte(config), 0o600))
	command := exec.Command(binary, "trace", "--pcap", capture, "--config", manifest, "-o", "json")
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
