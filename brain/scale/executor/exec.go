package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Exec runs a command for each order. It gets the order as JSON on standard input, and in its environment SLUICE_SERVICE,
// SLUICE_INSTANCES, SLUICE_WAS, SLUICE_REMOVE (names with blanks), SLUICE_KEY and SLUICE_TOKEN. It may print a Result as JSON. When it does not end in
// time, it and all processes of its group are killed.
type Exec struct {
	Command []string // program and arguments
}

const (
	// mostOutput is how much a command, or an answer, may say.
	mostOutput = 1 << 20
	// shownError is how much of it errors show.
	shownError = 300
	// afterKill is how long output is waited for after the kill.
	afterKill = time.Second
)

// Execute runs the command. What is not there or may not be run is a permanent error; another exit code than 0 is one that is tried again,
// but for 64 to 78, by which programs tell that they are used wrongly (sysexits.h).
func (e Exec) Execute(ctx context.Context, o Order) (Result, error) {
	if len(e.Command) == 0 {
		return Result{}, Permanent(fmt.Errorf("no command to run"))
	}
	input, err := json.Marshal(o)
	if err != nil {
		return Result{}, Permanent(err)
	}
	cmd := exec.CommandContext(ctx, e.Command[0], e.Command[1:]...)
	output, problem := &bounded{most: mostOutput}, &bounded{most: mostOutput}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), output, problem
	cmd.Env = append(os.Environ(), "SLUICE_SERVICE="+o.Service, "SLUICE_INSTANCES="+strconv.Itoa(o.Instances), "SLUICE_WAS="+strconv.Itoa(o.Was),
		"SLUICE_REMOVE="+strings.Join(o.Remove, " "), "SLUICE_KEY="+o.Key, "SLUICE_TOKEN="+strconv.FormatUint(o.Token, 10))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = afterKill
	if err := cmd.Start(); err != nil {
		return Result{}, Permanent(fmt.Errorf("running %s: %w", e.Command[0], err))
	}
	if err := cmd.Wait(); err != nil {
		err = fmt.Errorf("%s: %w%s", e.Command[0], err, problem.tail())
		if code := cmd.ProcessState.ExitCode(); code >= 64 && code <= 78 {
			err = Permanent(err)
		}
		return Result{}, err
	}
	return parseResult(output, e.Command[0])
}

// parseResult reads a Result, which may be absent.
func parseResult(output *bounded, from string) (Result, error) {
	text := bytes.TrimSpace(output.data)
	if len(text) == 0 {
		return Result{}, nil
	}
	if output.cut {
		return Result{}, Permanent(fmt.Errorf("%s says more than %d bytes", from, output.most))
	}
	var result Result
	if err := json.Unmarshal(text, &result); err != nil {
		return Result{}, Permanent(fmt.Errorf(`%s says %.80q, which is nothing like {"backends": [{"address": "192.0.2.1"}]}: %w`, from, text, err))
	}
	for i, b := range result.Backends {
		if !b.Address.IsValid() {
			return Result{}, Permanent(fmt.Errorf("%s names a backend without an address: backends[%d]", from, i))
		}
	}
	return result, nil
}

// bounded keeps the beginning of what is written.
type bounded struct {
	data []byte
	most int
	cut  bool
}

// Write takes everything.
func (b *bounded) Write(p []byte) (int, error) {
	room := min(len(p), b.most-len(b.data))
	b.data = append(b.data, p[:room]...)
	b.cut = b.cut || room < len(p)
	return len(p), nil
}

// tail is the end of what was said, for an error.
func (b *bounded) tail() string {
	text := strings.TrimSpace(string(b.data))
	if text == "" {
		return ""
	}
	if len(text) > shownError {
		text = "..." + text[len(text)-shownError:]
	}
	return ": " + text
}
