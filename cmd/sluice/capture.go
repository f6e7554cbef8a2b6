package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
	_ = cmd.RegisterFlagCompletionFunc("service", func(cmd *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return c.completeService(cmd, nil, prefix)
	})
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

// capture writes packets until ctx ends or there were count of them.
func (c *cli) capture(ctx context.Context, request control.CaptureRequest, path string, count int) (err error) {
	target, err := c.openCapture(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	buffer := bufio.NewWriter(target)
	writer, err := newPcapWriter(buffer)
	if err != nil {
		return err
	}
	packets, lost := 0, uint64(0)
	var failed error
	begun := func() { fmt.Fprintln(c.stderr, "capturing; Ctrl-C ends it") }
	err = c.client().Capture(ctx, request, begun, func(p control.CapturedPacket) bool {
		packets, lost = packets+1, p.Lost
		failed = errors.Join(writer.write(p.Time, p.Before, p.BeforeLength), writer.write(p.Time, p.After, p.AfterLength), buffer.Flush())
		return failed == nil && packets != count
	})
	if err := errors.Join(noService(err), failed, buffer.Flush()); err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "%s captured, each as it came and as it left", plural(packets, "packet"))
	if lost > 0 {
		fmt.Fprintf(c.stderr, "; %d more came too fast", lost)
	}
	fmt.Fprintln(c.stderr)
	return nil
}

// openCapture opens the file to write. The daemon is asked only when that is possible.
func (c *cli) openCapture(path string) (io.WriteCloser, error) {
	if path == "-" {
		return standardOutput{c.stdout}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("writing the capture: %w", err)
	}
	return file, nil
}

// standardOutput stays open for others.
type standardOutput struct{ io.Writer }

// Close does nothing.
func (standardOutput) Close() error { return nil }
