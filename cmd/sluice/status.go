package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluicelb/sluice/control"
)

// statusFlags are those of the status command.
type statusFlags struct {
	reasons bool
	check   bool
	watch   time.Duration // 0: once
}

func newStatusCommand(c *cli) *cobra.Command {
	var flags statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the daemon and every service do",
		Example: `  sluice status --watch        repaint every second, with rates
  sluice status --check        exit code 1 when a service is not ok`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case flags.watch == 0 && !cmd.Flags().Changed("watch"):
				return c.statusOnce(cmd, flags)
			case flags.watch <= 0:
				return invalidInput("--watch: %s is not above 0", flags.watch)
			case flags.check:
				return usageError("--check does not go with --watch")
			}
			ticker := time.NewTicker(flags.watch)
			defer ticker.Stop()
			return c.statusWatch(cmd, flags, ticker.C)
		},
	}
	cmd.Flags().BoolVar(&flags.reasons, "reasons", false, "show every way that packets ended other than being forwarded")
	cmd.Flags().BoolVar(&flags.check, "check", false, "exit with code 1 when a service is not ok")
	cmd.Flags().DurationVarP(&flags.watch, "watch", "w", 0, "repaint every `DURATION` until Ctrl-C (also --follow)")
	cmd.Flags().Lookup("watch").NoOptDefVal = "1s"
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "follow" {
			name = "watch"
		}
		return pflag.NormalizedName(name)
	})
	return outputFlag(cmd)
}

func (c *cli) statusOnce(cmd *cobra.Command, flags statusFlags) error {
	status, err := c.client().Status(cmd.Context())
	if err != nil {
		return err
	}
	view := statusView{status: &status, reasons: flags.reasons}
	if err := c.show(cmd, status, view.print); err != nil {
		return err
	}
	if flags.check {
		return checkServices(status.Services)
	}
	return nil
}

// checkServices returns an error that names the services that are not ok.
func checkServices(services []control.ServiceStatus) error {
	var bad []string
	for _, s := range services {
		if s.State != control.ServiceOK {
			bad = append(bad, fmt.Sprintf("%s is %s", s.Name, s.State))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return &exitError{exitFailure, fmt.Sprintf("%d of %s not ok: %s", len(bad), plural(len(services), "service"), strings.Join(bad, ", "))}
}

// clearScreen moves to the upper left corner and erases the screen: ECMA-48, CUP and ED.
const clearScreen = "\x1b[H\x1b[2J"

// statusWatch prints the status at once and at each tick, until the command's context ends. A daemon that
// is gone for a while is waited for, unless it is not there at the beginning.
func (c *cli) statusWatch(cmd *cobra.Command, flags statusFlags, ticks <-chan time.Time) error {
	client := c.client()
	var before *sample
	for first := true; ; first = false {
		status, err := client.Status(cmd.Context())
		switch {
		case cmd.Context().Err() != nil:
			return nil
		case err != nil && (first || !errors.Is(err, control.ErrUnreachable)):
			return err
		case err != nil:
			fmt.Fprintf(c.stderr, "sluice: %v\n", err)
		default:
			now := &sample{status: &status, at: time.Now()}
			if err := c.repaint(cmd, flags, now, before); err != nil {
				return err
			}
			before = now
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-ticks:
		}
	}
}

func (c *cli) repaint(cmd *cobra.Command, flags statusFlags, now, before *sample) error {
	switch format := outputFormat(cmd); {
	case format == formatYAML:
		fmt.Fprintln(c.stdout, "---")
	case format == formatTable && c.terminal:
		fmt.Fprint(c.stdout, clearScreen)
	}
	view := statusView{status: now.status, reasons: flags.reasons, rates: now.rates(before)}
	return c.show(cmd, *now.status, view.print)
}

// sample is a status and when it was taken.
type sample struct {
	status *control.Status
	at     time.Time
}

// rate is per second.
type rate struct{ newFlows, packets float64 }

// rates returns those of every service since an earlier sample, which may be nil.
func (s *sample) rates(before *sample) map[string]rate {
	rates := make(map[string]rate)
	if before == nil {
		return rates
	}
	type backend struct{ service, address string }
	counted := make(map[backend]control.BackendStatus)
	for _, service := range before.status.Services {
		for _, b := range service.Backends {
			counted[backend{service.Name, endpoint(b.Address, b.Port)}] = b
		}
	}
	seconds := s.at.Sub(before.at).Seconds()
	for _, service := range s.status.Services {
		var sum rate
		for _, b := range service.Backends {
			// One that was removed and added counts from 0 again.
			old, known := counted[backend{service.Name, endpoint(b.Address, b.Port)}]
			if known && b.Packets >= old.Packets && b.NewFlows >= old.NewFlows {
				sum.newFlows += float64(b.NewFlows-old.NewFlows) / seconds
				sum.packets += float64(b.Packets-old.Packets) / seconds
			}
		}
		rates[service.Name] = sum
	}
	return rates
}
