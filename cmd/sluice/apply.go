package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
)

func newApplyCommand(c *cli) *cobra.Command {
	var file string
	var exitCode bool
	var request control.ApplyRequest
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make services what a manifest says, all or nothing",
		Long: `Make the services that a manifest lists exactly what it says, with exactly its backends, all or nothing.
Services that it does not list stay, unless --prune is given. Applying what ` + "`sluice export`" + ` wrote changes nothing.`,
		Example: `  sluice apply -f services.yaml --dry-run
  sluice export | sed s/192.168.1/192.168.2/ | sluice apply -f -`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case file == "":
				return usageError(`-f FILE is missing; "-" is standard input`)
			case exitCode && !request.DryRun:
				return usageError("--exit-code goes with --dry-run")
			}
			manifest, err := c.readManifest(file)
			if err != nil {
				return err
			}
			request.Services, request.Events = manifest.Services, manifest.Events
			result, err := c.client().Apply(cmd.Context(), request)
			if err != nil {
				return err
			}
			if err := c.show(cmd, result, func(p *page) { p.changes(result, request.DryRun) }); err != nil {
				return err
			}
			if exitCode && len(result.Changes) > 0 {
				return &exitError{code: exitChanges}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "manifest, a `FILE` in YAML or JSON; \"-\" is standard input")
	_ = cmd.MarkFlagFilename("file", "yaml", "yml", "json") // fails only for an unknown flag
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "only say what would change")
	cmd.Flags().BoolVar(&request.Prune, "prune", false, "remove the services that the manifest does not list")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "with --dry-run: end with code 10 when there are changes")
	return outputFlag(cmd)
}

func (c *cli) readManifest(file string) (control.Manifest, error) {
	name, read := file, func() ([]byte, error) { return os.ReadFile(file) }
	if file == "-" {
		name, read = "standard input", func() ([]byte, error) { return io.ReadAll(c.stdin) }
	}
	data, err := read()
	if err != nil {
		return control.Manifest{}, fmt.Errorf("reading the manifest: %w", err)
	}
	return control.ParseManifest(name, data)
}

// changes lists what apply did, or would do.
func (p *page) changes(result control.ApplyResult, dryRun bool) {
	if len(result.Changes) > 0 {
		t := newTable("ACTION", "KIND", "NAME", "DETAIL")
		styles := map[control.Action]style{
			control.ActionCreate: green, control.ActionUpdate: yellow, control.ActionRemove: red,
		}
		for _, change := range result.Changes {
			t.add(cell{text: string(change.Action), style: styles[change.Action]}, change.Kind, change.Name, change.Detail)
		}
		p.table(t)
	}
	for _, name := range result.Kept {
		p.line("kept service %s, which is not listed; --prune removes it", name)
	}
	switch done := plural(len(result.Changes), "change"); {
	case len(result.Changes) == 0:
		p.line("nothing to change")
	case dryRun:
		p.line("%s to make; dry run, nothing was changed", done)
	default:
		p.line("%s made", done)
	}
}
