package main

import (
	"strings"
	"testing"
)

func TestCommandLineIsChecked(t *testing.T) {
	for arguments, want := range map[string]string{
		"":                                    "--destination",
		"--destination 192.0.2.1":             "--destination",
		"--destination 192.0.2.1:0":           "--destination",
		"--destination-mac 02:00":             "--destination-mac",
		"--source 2001:db8::1":                "--source",
		"--source x":                          "--source",
		"--size 59":                           "--size: 59 is not between 60 and 9014",
		"--size 60,9015":                      "--size: 9015",
		"--threads 0":                         "--threads",
		"--flows 0":                           "--flows",
		"--flows 3 --threads 4":               "--flows: 3 is less than 1 for each of 4 threads",
		"--flows 2000000000":                  "--flows",
		"--rate -1":                           "--rate",
		"--rate 3 --threads 4":                "--rate: 3",
		"--packets 3 --threads 4":             "--packets: 3",
		"--duration 0s":                       "--duration",
		"--repeat 0":                          "--repeat",
		"-o yaml":                             "--output",
		"eth0":                                `"eth0" is no flag`,
		"--no-such-flag":                      "unknown flag",
		"--destination [::1]:9 --size 77":     "between 78",
		"--destination [::1]:9 --flows 64513": "--flows: pktgen changes no IPv6 source address",
	} {
		if !strings.Contains(arguments, "--destination ") && arguments != "" {
			arguments += " --destination 192.0.2.1:9"
		}
		_, err := parse(strings.Fields(arguments))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, and must contain %q", arguments, err, want)
		}
	}
}

func TestEveryCombinationIsARow(t *testing.T) {
	o, err := parse(strings.Fields("--destination 192.0.2.1:9 --size 60,512 --flows 1,100 --threads 1 --rate 0,1000,2000"))
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[load]bool)
	for _, l := range o.loads {
		rows[l] = true
	}
	if len(o.loads) != 12 || len(rows) != 12 {
		t.Errorf("%d rows, %d of them different: %v", len(o.loads), len(rows), o.loads)
	}
	o, err = parse(strings.Fields("--destination [2001:db8::1]:9"))
	if err != nil || len(o.loads) != 1 || o.loads[0].Size != 78 {
		t.Errorf("without --size the rows are %v, %v", o.loads, err)
	}
}
