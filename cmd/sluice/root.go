package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

// cli is what all commands share.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	interactive    bool // stdin is a terminal
	terminal       bool // stdout is a terminal
	progress       bool // stderr is a terminal
	socket         string
	noColor        bool
}

// run executes one command line and returns its exit code.
func (c *cli) run(ctx context.Context, args []string) int {
	root := newRootCommand(c)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return c.report(cmd, err)
}

func newRootCommand(c *cli) *cobra.Command {
	root := newGroup("sluice", "A layer-4 load balancer on XDP",
		newRunCommand(c),
		newServiceCommand(c),
		newBackendCommand(c),
		newApplyCommand(c),
		newExportCommand(c),
		newStatusCommand(c),
		newEventsCommand(c),
		newHistoryCommand(c),
		newEventCommand(c),
		newDoctorCommand(c),
		newTraceCommand(c),
		newCaptureCommand(c),
		newForecastCommand(c),
		newScaleCommand(c),
		newPlansCommand(c),
		newPlanCommand(c),
		newCacheCommand(c),
		newLogLevelCommand(c),
		newDecapCommand(c),
		newUnloadCommand(c),
		newVersionCommand(c),
		newCompletionCommand(c),
		newDemoCommand(c),
		newDemoBackendCommand(),
		newDemoServerCommand(),
		newDemoProvisionCommand(c),
		newBenchCommand(c),
		newBenchFailoverBackendCommand(),
		newBenchFailoverBusyCommand(),
		newBenchHTTPServerCommand(),
		newBenchHTTPClientCommand(c),
		newExitCodesTopic(),
	)
	root.Version = version
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelpCommand())
	root.SetFlagErrorFunc(flagError)
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	socket := cmp.Or(os.Getenv("SLUICE_SOCKET"), control.DefaultConfig().API.Socket)
	root.PersistentFlags().StringVar(&c.socket, "socket", socket, "the daemon's API socket, a `PATH`; also $SLUICE_SOCKET")
	root.PersistentFlags().BoolVar(&c.noColor, "no-color", false, "no colours; also $NO_COLOR")
	return root
}

// client returns a client of the daemon; it does not connect yet.
func (c *cli) client() *control.Client { return control.NewClient(c.socket) }

// colored says whether output may have colours.
func (c *cli) colored() bool {
	return c.terminal && !c.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// newGroup returns a command that only holds others.
func newGroup(name, short string, commands ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{
		Use:                        name,
		Short:                      short,
		DisableFlagsInUseLine:      true,
		SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group.AddCommand(commands...)
	return group
}

// newHelpCommand returns a help command that, unlike cobra's, fails for an unknown command.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "Help about a command or a topic",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []cobra.Completion
			if of, _, err := cmd.Root().Find(args); err == nil {
				for _, command := range of.Commands() {
					if !command.Hidden {
						names = append(names, cobra.CompletionWithDesc(command.Name(), command.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = unknownCommand(of, rest[0])
			}
			if err != nil {
				return err
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// unknownCommand is the error for a mistyped command, with those that may be meant.
func unknownCommand(group *cobra.Command, name string) error {
	message := fmt.Sprintf("unknown command %q", strings.TrimSpace(group.CommandPath()+" "+name))
	if names := group.SuggestionsFor(name); len(names) > 0 {
		message += ": did you mean " + strings.Join(names, " or ") + "?"
	}
	return usageError("%s", message)
}

// arguments accepts as many arguments as the command's Use line names before any flag; those in brackets
// may be absent.
func arguments(cmd *cobra.Command, args []string) error {
	use, _, _ := strings.Cut(cmd.Use, " -")
	names := strings.Fields(use)[1:]
	switch {
	case len(args) > len(names):
		return usageError("%q is one argument too many", args[len(names)])
	case len(args) < len(names) && !strings.HasPrefix(names[len(args)], "["):
		return usageError("%s is missing", names[len(args)])
	}
	return nil
}
