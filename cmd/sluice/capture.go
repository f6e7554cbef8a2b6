package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sluicelb/sluice/control"
)

func newCaptureCommand(c *cli) *cobra.Command {
	var request control.CaptureRequest
	var file string
	var count int
	var limit control.Duration
	cmd := &cobra.Command{
		Use:   "capture -w FILE",
		Short: "Write packets, as they come and as they leave, to a capture file",
		Long: `Write packets from the live program to a file in pcap format: each as it came in, followed by the same packet as
it left, was passed to the host or was dropped. Of frames longer than 2,048 bytes the rest is left out.
A program that shows packets runs meanwhile; without a capture there is nothing that could cost anything.`,
		Example: `  sluice capture --service web --count 20 -w web.pcap
  sluice capture --reason drop_no_backend -w - | tcpdump -nr -
  sluice capture --every 1000 --for 10s -w sample.pcap`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usageError(`-w FILE is missing; "-" is standard output`)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Duration(limit))
				defer cancel()
			}
			return c.capture(ctx, request, file, count)
		},
	}
	cmd.Flags().StringVar(&request.Service, "service", "", "only packets of a `SERVICE`, by name or address")
	c.completeServiceFlag(cmd)
	cmd.Flags().StringVar(&request.Reason, "reason", "", "only packets that end for a `REASON` of status --reasons, or as to_backend or to_client")
	completeFlag(cmd, "reason")
	cmd.Flags().Func("every", "one of `N` packets, by chance", func(text string) error {
		n, err := strconv.ParseUint(text, 10, 32)
		request.Every = uint32(n)
		return positive(text, int(n), "a count above 0", err)
	})
	cmd.Flags().Func("count", "end after `N` packets", func(text string) (err error) {
		count, err = strconv.Atoi(text)
		return positive(text, count, "a count above 0", err)
	})
	cmd.Flags().Func("for", "end after a `DURATION` such as 10s", func(text string) error {
		err := limit.UnmarshalText([]byte(text))
		return positive(text, limit, "a duration above 0, such as 10s", err)
	})
	cmd.Flags().StringVarP(&file, "write", "w", "", "`FILE` to write; \"-\" is standard output")
	_ = cmd.MarkFlagFilename("write", "pcap")
	return cmd
}

// capture writes packets until ctx ends or there were count of them. What the file holds is overwritten when the
// daemon has begun to show packets, not before.
func (c *cli) capture(ctx context.Context, request control.CaptureRequest, path string, count int) (err error) {
	target, err := c.openCapture(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	buffer := bufio.NewWriter(target)
	var writer pcapWriter
	packets, lost := 0, uint64(0)
	var failed error
	begun := func() error {
		fmt.Fprintln(c.stderr, "capturing; Ctrl-C ends it")
		if err := target.begin(); err != nil {
			return err
		}
		writer, err = newPcapWriter(buffer)
		return errors.Join(err, buffer.Flush())
	}
	err = c.client().Capture(ctx, request, begun, func(p control.CapturedPacket) bool {
		failed = errors.Join(writer.write(p.Time, p.Before, p.BeforeLength), writer.write(p.Time, p.After, p.AfterLength))
		if failed == nil {
			failed = buffer.Flush()
		}
		if failed == nil {
			packets, lost = packets+1, p.Lost
		}
		return failed == nil && packets != count
	})
	if target.begun {
		fmt.Fprintf(c.stderr, "%s captured, each as it came and as it left", plural(packets, "packet"))
		if lost > 0 {
			fmt.Fprintf(c.stderr, "; %d more came too fast", lost)
		}
		fmt.Fprintln(c.stderr)
	}
	return cmp.Or(failed, noService(err))
}

// captureFile is what a capture is written to.
type captureFile struct {
	io.Writer
	file  *os.File // nil for standard output
	fresh bool     // there was no such file before
	begun bool
}

// openCapture opens the file to write. The daemon is asked only when that is possible.
func (c *cli) openCapture(path string) (*captureFile, error) {
	if path == "-" {
		return &captureFile{Writer: c.stdout}, nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	fresh := err == nil
	if errors.Is(err, fs.ErrExist) {
		file, err = os.OpenFile(path, os.O_WRONLY, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("writing the capture: %w", err)
	}
	return &captureFile{Writer: file, file: file, fresh: fresh}, nil
}

// begin removes what a file held before.
func (f *captureFile) begin() error {
	f.begun = true
	if f.file == nil {
		return nil
	}
	if info, err := f.file.Stat(); err != nil || !info.Mode().IsRegular() {
		return err // pipes and devices hold nothing
	}
	return f.file.Truncate(0)
}

// close also removes the file if nothing began. Standard output stays open for others.
func (f *captureFile) close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	if f.fresh && !f.begun {
		err = errors.Join(err, os.Remove(f.file.Name()))
	}
	return err
}
