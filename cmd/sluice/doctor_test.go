package main

import (
	"testing"

	"github.com/sluicelb/sluice/control/doctor"
)

func TestDoctorWrongCommandLine(t *testing.T) {
	s := newSession(t)
	s.run("doctor web")
	s.run("doctor -o toml")
	s.run("doctor --config $DIR/sluice.yaml")
	s.file("sluice.yaml", "interfaces: []")
	s.run("doctor --config $DIR/sluice.yaml")
	s.run("doctor --service web")
	s.golden()
}

// What the doctor finds is tested in its own package; here is what people see of it.
func TestDoctorView(t *testing.T) {
	report := doctor.Report{Findings: []doctor.Finding{
		{
			Check: "vip", Severity: doctor.Error, Object: "service web, backend one", On: "192.168.1.11",
			Problem: "no answer for 10.0.0.1", Command: "ip address add 10.0.0.1/32 dev lo",
		},
		{
			Check: "mtu", Severity: doctor.Warning, Object: "service web, backend two",
			Problem: "packets do not fit", Command: "ip link set dev eth0 mtu 1520",
		},
		{Check: "namespace", Severity: doctor.Info, Problem: "not checked: no daemon answers"},
		{Check: "limits", Severity: doctor.Info, Problem: "not checked: no daemon answers"},
		{Check: "kernel", Severity: doctor.OK},
		{Check: "bpffs", Severity: doctor.OK},
	}}
	p := &page{}
	doctorView{report}.print(p)
	golden(t, p.String())
}

func TestDiagnosis(t *testing.T) {
	for worst, want := range map[doctor.Severity]int{
		doctor.OK: exitOK, doctor.Info: exitOK, doctor.Warning: exitWarnings, doctor.Error: exitFailure,
	} {
		if got := exitCode(diagnosis(worst)); got != want {
			t.Errorf("%s: exit code %d, want %d", worst, got, want)
		}
	}
}
