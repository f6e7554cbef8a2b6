package main

import (
	"reflect"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newScaleSetCommand(c *cli) *cobra.Command {
	var scaling control.Scaling
	cmd := &cobra.Command{
		Use:   "set SERVICE",
		Short: "Have a service scale, or change how; what no flag names stays",
		Long: `Say how many backends a service may have, what one serves, and who starts and ends them. The flags are the keys of the
section "scaling" of a service in a manifest. Without --executor it is only recommended how many there should be.`,
		Example: `  sluice scale set web --service-rate 200 --objective 100ms
  sluice scale set web --executor exec --command /usr/local/bin/scale-web --min 2 --max 20 --boot 90s`,
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			if scaling == (control.Scaling{}) {
				return usageError("nothing to change: give a flag")
			}
			s, err := c.client().UpdateService(cmd.Context(), args[0], control.ServicePatch{Scaling: &scaling})
			if err != nil {
				return noService(err)
			}
			return c.show(cmd, s.Scaling, func(p *page) { p.line("changed the scaling of service %s", s.Name) })
		},
	}
	structFlags(cmd, "", reflect.ValueOf(&scaling).Elem())
	return outputFlag(cmd)
}

func newScaleOffCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "off SERVICE",
		Short:             "Have a service scale no more; its backends stay",
		Args:              arguments,
		ValidArgsFunction: c.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.client().UpdateService(cmd.Context(), args[0], control.ServicePatch{Scaling: new(control.Scaling)})
			if err != nil {
				return noService(err)
			}
			return c.show(cmd, s, func(p *page) {
				p.line("service %s does not scale any more; it has %s", s.Name, plural(len(s.Backends), "backend"))
			})
		},
	}
	return outputFlag(cmd)
}
