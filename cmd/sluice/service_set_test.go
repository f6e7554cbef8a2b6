package main

import "testing"

func TestServiceSet(t *testing.T) {
	s := newWebSession(t)
	s.run("service set web --name www")
	s.run("service set 10.0.0.1 --probe-interval 500ms --fall 5 -o json")
	s.run("service set 2001:db8::53 --mode ipip -o yaml")

	s.run("service set www")
	s.run("service set web --name x")
	s.run("service set www --name dns")
	s.run("service set www --name 10.0.0.7")
	s.run("service set www --mode l2")
	s.run("service set www --mode nothing")
	s.run("service set www --rise -1")
	s.golden()
}

// What chooses a backend, from flags and back.
func TestSelection(t *testing.T) {
	s := newSession(t)
	s.run("service add quic 10.0.0.1:443 --protocol udp --mode gue --hash source/24 --quic 1/2 --limit 100:200/24 --source 192.0.2.0/24=deny")
	s.run("backend add quic 10.1.0.1 --server-id cafe")
	s.run("backend add quic 10.1.0.2 --set canary")
	s.run("service set quic --source 192.0.2.0/24=deny --source 10.0.0.0/8=canary")
	s.run("service show quic")
	s.run("export")
	s.run("backend set quic 10.1.0.1 --server-id off")
	s.run("service set quic --quic off --limit off --source off --hash flow")
	s.run("backend set quic 10.1.0.2 --set=")
	s.run("export")
	s.run("service add mss 10.0.0.2:80 --clamp-mss auto -o json")

	s.run("service add even 10.0.0.3:80 --mode l2 --policy p2c")
	s.run("service show even")
	s.run("service set even --policy maglev --tracking just-enough")
	s.run("service show even")
	s.run("export")
	s.run("service set even --mode nat")
	s.run("service set even --tracking default --mode nat")

	s.run("service set quic --policy p2c")
	s.run("service set quic --tracking everything")
	s.run("service set quic --hash random")
	s.run("service set quic --hash source/33")
	s.run("service set quic --clamp-mss 1400")
	s.run("service set quic --quic 1")
	s.run("service set quic --quic 9/4")
	s.run("service set quic --limit 0")
	s.run("service set quic --limit 100/33")
	s.run("service set quic --limit 100:")
	s.run("service set quic --source 192.0.2.0/24")
	s.run("service set quic --source 192.0.2.1/24=deny")
	s.run("service set quic --source 192.0.2.0/24=nowhere")
	s.run("backend set quic 10.1.0.1 --server-id cafe")
	s.run("backend set quic 10.1.0.1 --server-id coffee")
	s.run("backend set quic 10.1.0.1 --set Canary")
	s.golden()
}
