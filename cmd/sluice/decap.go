package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/dataplane"
)

func newDecapCommand(c *cli) *cobra.Command {
	group := newGroup("decap", "Let this host receive ipip and gue traffic as a backend",
		newDecapAttachCommand(c),
		newDecapDetachCommand(c),
	)
	group.Long = `A backend of an ipip or gue service receives packets inside other packets. The program that decap attaches takes
the outer header off, so that the backend needs no tunnel device. It stays until it is detached or the
host restarts, and needs no daemon.`
	return group
}

// decapFlags are those of both commands.
func decapFlags(cmd *cobra.Command, name, pinPath *string) {
	cmd.Flags().StringVar(name, "interface", "", "`INTERFACE` that the packets arrive on")
	pinPathFlag(cmd, pinPath)
}

func newDecapAttachCommand(c *cli) *cobra.Command {
	var name, pinPath string
	var mode dataplane.XDPMode
	cmd := &cobra.Command{
		Use:               "attach --interface INTERFACE",
		Short:             "Attach the decapsulating program to an interface",
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usageError("--interface is missing")
			}
			attached, err := dataplane.AttachDecap(name, mode, pinPath)
			if err != nil {
				return err
			}
			return c.show(cmd, attached, func(p *page) {
				reason := ""
				if attached.Reason != "" {
					reason = " (" + attached.Reason + ")"
				}
				p.line("attached to %s, XDP mode %s%s", attached.Name, attached.Mode, reason)
			})
		},
	}
	decapFlags(cmd, &name, &pinPath)
	xdpModeFlag(cmd, &mode)
	return outputFlag(cmd)
}

func newDecapDetachCommand(c *cli) *cobra.Command {
	var name, pinPath string
	cmd := &cobra.Command{
		Use:               "detach --interface INTERFACE",
		Short:             "Take the decapsulating program off an interface",
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usageError("--interface is missing")
			}
			err := dataplane.DetachDecap(name, pinPath)
			if errors.Is(err, os.ErrNotExist) {
				return &exitError{exitNotFound, err.Error()}
			}
			if err != nil {
				return err
			}
			return c.show(cmd, map[string]string{"detached": name}, func(p *page) { p.line("detached from %s", name) })
		},
	}
	decapFlags(cmd, &name, &pinPath)
	return outputFlag(cmd)
}
