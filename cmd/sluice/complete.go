package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// completionTimeout is how long a shell waits for the daemon's names.
const completionTimeout = time.Second

// completeFlag offers a flag's known values.
func completeFlag(cmd *cobra.Command, name string, values ...string) {
	// It fails only for an unknown flag or a second registration.
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completeService offers the services for the first argument, as far as the daemon answers.
func (c *cli) completeService(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) == 0 {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		services, _ := c.client().Services(ctx)
		for _, s := range services {
			names = append(names, cobra.CompletionWithDesc(s.Name, s.Key().String()))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeServiceFlag offers the services for the flag --service.
func (c *cli) completeServiceFlag(cmd *cobra.Command) {
	// It fails only for an unknown flag or a second registration.
	_ = cmd.RegisterFlagCompletionFunc("service", func(cmd *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return c.completeService(cmd, nil, prefix)
	})
}

// completeBackend offers the services for the first argument and that one's backends for the second.
func (c *cli) completeBackend(cmd *cobra.Command, args []string, prefix string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeService(cmd, args, prefix)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	service, _ := c.client().Service(ctx, args[0])
	for _, b := range service.Backends {
		names = append(names, cobra.CompletionWithDesc(b.Name, endpoint(b.Address, b.Port)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
