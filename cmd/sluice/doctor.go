package main

import (
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/control"
	"github.com/sluicelb/sluice/control/doctor"
)

func newDoctorCommand(c *cli) *cobra.Command {
	var file, service string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what keeps packets from getting through, and what mends it",
		Long: `Look at the kernel, the interfaces, the routes and the backends for what keeps packets from getting through,
and say for each finding which command mends it. Nothing is changed. In the modes that have backends answer
clients directly, each is probed on the way of the traffic: the first segment of a TCP connection to the
service is sent to that very backend, and the connection is never completed.

Run it as root, where the daemon runs. Without a daemon only the host is looked at.

Exit codes: 0 nothing worse than info, 1 an error was found, 7 warnings were found and no error.`,
		Example: `  sluice doctor                  everything
  sluice doctor --service web    only one service and its backends`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := c.doctorOptions(cmd, file, service)
			if err != nil {
				return err
			}
			report, err := doctor.Run(cmd.Context(), options)
			if err != nil {
				return noService(err)
			}
			if err := c.show(cmd, report, doctorView{report}.print); err != nil {
				return err
			}
			return diagnosis(report.Worst())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the daemon's configuration, a `FILE` in YAML (default "+defaultConfig+", if it is there)")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml") // fails only for an unknown flag
	cmd.Flags().StringVar(&service, "service", "", "look only at this `SERVICE`, by name or address")
	_ = cmd.RegisterFlagCompletionFunc("service", c.completeService) // as above
	return outputFlag(cmd)
}

// doctorOptions reads the configuration, which must be there when it was asked for.
func (c *cli) doctorOptions(cmd *cobra.Command, file, service string) (doctor.Options, error) {
	options := doctor.Options{Socket: c.socket, Service: service, ConfigPath: file}
	path := file
	if path == "" {
		path = defaultConfig
	}
	config, err := control.LoadConfig(path)
	if file == "" && errors.Is(err, os.ErrNotExist) {
		return options, nil
	}
	options.Config = &config
	if file != "" && !cmd.Flag("socket").Changed {
		options.Socket = config.API.Socket
	}
	return options, err
}

// diagnosis turns the worst finding into an exit code.
func diagnosis(worst doctor.Severity) error {
	switch worst {
	case doctor.Error:
		return &exitError{code: exitFailure}
	case doctor.Warning:
		return &exitError{code: exitWarnings}
	}
	return nil
}

// doctorView is a report as people see it: the findings, then what was not checked and what is well.
type doctorView struct{ report doctor.Report }

func (v doctorView) print(p *page) {
	counts := make(map[doctor.Severity]int)
	remarks := make(map[string][]string) // checks without an object, by what is said of them
	var order []string
	for _, f := range v.report.Findings {
		counts[f.Severity]++
		if f.Object != "" || f.Command != "" {
			v.printFinding(p, f)
			continue
		}
		remark := v.severity(p, f.Severity) + f.Problem
		if remarks[remark] == nil {
			order = append(order, remark)
		}
		remarks[remark] = append(remarks[remark], f.Check)
	}
	for _, remark := range order {
		separator := ""
		if !strings.HasSuffix(remark, " ") {
			separator = ": "
		}
		p.line("%s%s%s", remark, separator, strings.Join(remarks[remark], ", "))
	}
	p.line("")
	p.line("%s, %s", plural(counts[doctor.Error], "error"), plural(counts[doctor.Warning], "warning"))
}

func (v doctorView) printFinding(p *page, f doctor.Finding) {
	object, where := f.Object, ""
	if object != "" {
		object += ": "
	}
	if f.On != "" {
		where = p.paint(faint, "  # on "+f.On)
	}
	p.line("%s%s: %s%s", v.severity(p, f.Severity), f.Check, object, f.Problem)
	p.line("%s$ %s%s", strings.Repeat(" ", severityWidth), f.Command, where)
}

// severityWidth is that of the first column.
const severityWidth = len(doctor.Warning) + 2

// severity is padded outside its colours, which do not count as width.
func (v doctorView) severity(p *page, s doctor.Severity) string {
	styles := map[doctor.Severity]style{doctor.Error: red, doctor.Warning: yellow, doctor.Info: faint, doctor.OK: green}
	return p.paint(styles[s], string(s)) + strings.Repeat(" ", severityWidth-len(s))
}
