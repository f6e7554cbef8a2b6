package throughput

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// What is not answered as it must be counts as failed, and not as a request.
func TestClientNoticesWrongAnswers(t *testing.T) {
	right := answer(workloads[Connections].size, true) + strings.Repeat("\x00", workloads[Connections].size)
	for name, test := range map[string]struct{ answer, want string }{
		"error":     {"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n", "in the place of"},
		"nothing":   {"", "closed the connection after 0 bytes"},
		"too short": {right[:len(right)-1], "closed the connection after"},
		"too long":  {right + "x", "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			sample := sampleOf(t, test.answer)
			if sample.Failed == 0 || sample.Requests != 0 || !strings.Contains(sample.Problem, test.want) {
				t.Errorf("%+v", sample)
			}
		})
	}
	if sample := sampleOf(t, right); sample.Failed != 0 || sample.Requests == 0 {
		t.Errorf("the right answer: %+v", sample)
	}
}

// sampleOf runs a client against a server that answers everything so.
func sampleOf(t *testing.T, answer string) Sample {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, maxRequest)) // a request is one segment
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	var output bytes.Buffer
	if err := RunClient(t.Context(), &output, Connections, listener.Addr().String(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	var sample Sample
	if err := json.Unmarshal(output.Bytes(), &sample); err != nil {
		t.Fatal(err)
	}
	return sample
}
