package throughput

import (
	"strings"
	"testing"
)

// What is not installed is named with its package, and with a command line that does without.
func TestNotInstalled(t *testing.T) {
	o := Options{Contenders: []Contender{Forwarding, NFTables, SluiceNAT}}
	err := o.checkInstalled(func(string) string { return "" })
	if err == nil || err.Error() != "nft is not installed: apt-get install nftables, or leave it out with --contenders forwarding,sluice-nat" {
		t.Error(err)
	}
	o.Contenders = []Contender{HAProxy}
	if err := o.checkInstalled(func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "apt-get install haproxy") {
		t.Error(err)
	}
	o.Contenders = []Contender{Forwarding, SluiceNAT}
	if err := o.checkInstalled(func(string) string { return "" }); err != nil {
		t.Errorf("nothing is missing, but: %v", err)
	}
}
