package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newScalePauseCommand(c *cli) *cobra.Command {
	var request control.PauseRequest
	cmd := &cobra.Command{
		Use:   "pause [SERVICE]",
		Short: "Start and end no backends, of a service or of all",
		Long: `Start and end no backends until ` + "`sluice scale resume`" + `, or for some time. Decisions are still made and shown. It holds
after a restart of the daemon. A plan that is carried out goes on to its end.`,
		Example:           "  sluice scale pause web --for 2h --reason 'release 4.2'",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			pause, err := c.client().PauseScaling(cmd.Context(), serviceOrAll(args), request)
			if err != nil {
				return noService(err)
			}
			return c.show(cmd, pause, func(p *page) { p.line("paused scaling of %s %s", namedOrAll(args), pause) })
		},
	}
	cmd.Flags().TextVar(&request.For, "for", control.Duration(0), "`DURATION` after which it goes on by itself; 0s is not before it is resumed")
	cmd.Flags().StringVar(&request.Reason, "reason", "", "`TEXT` that others are shown")
	completeFlag(cmd, "for")
	completeFlag(cmd, "reason")
	return outputFlag(cmd)
}

func newScaleResumeCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "resume [SERVICE]",
		Short:             "Scale again what was paused, a service or all",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.client().ResumeScaling(cmd.Context(), serviceOrAll(args)); err != nil {
				if errors.Is(err, control.ErrNotFound) {
					return fmt.Errorf("%w: `sluice scale show` tells what is", err)
				}
				return err
			}
			resumed := control.Change{Action: control.ActionUpdate, Kind: control.KindService, Name: serviceOrAll(args), Detail: "scaling resumed"}
			return c.show(cmd, resumed, func(p *page) { p.line("resumed scaling of %s", namedOrAll(args)) })
		},
	}
	return outputFlag(cmd)
}

func serviceOrAll(args []string) string {
	if len(args) == 0 {
		return control.AllServices
	}
	return args[0]
}

func namedOrAll(args []string) string {
	if len(args) == 0 {
		return "all services"
	}
	return "service " + args[0]
}
