package main

import "testing"

func TestServiceAdd(t *testing.T) {
	s := newSession(t)
	s.run("service add web 10.0.0.1:80 --backend 192.168.1.11 --backend 192.168.1.12:8080")
	s.run("service add every-port 10.0.0.2 --mode l2 --probe none -o json")
	s.run("service add bare 2001:db8::1 --mode ipip --probe-port 80 --probe-interval 1s --probe-timeout 300ms --rise 4 --fall 5 -o yaml")
	s.run("service add brackets [2001:db8::1]:53 --protocol udp")
	s.run("service list")

	s.run("service add web 10.0.0.9:80")
	s.run("service add other 10.0.0.1:80")
	s.run("service add Web 10.0.0.3:80")
	s.run("service add x 10.0.0.300:80")
	s.run("service add x 10.0.0.3:99999")
	s.run("service add x 2001:db8::1:80:extra")
	s.run("service add x 224.0.0.1:80")
	s.run("service add x 10.0.0.3:80 --backend nowhere")
	s.run("service add x 10.0.0.3:80 --backend 2001:db8::11")
	s.run("service add x 10.0.0.3:80 --mode vxlan")
	s.run("service add x 10.0.0.3:80 --protocol dccp")
	s.run("service add x 10.0.0.3:80 --probe ping")
	s.run("service add x 10.0.0.3:80 --probe-port 0")
	s.run("service add x 10.0.0.3:80 --probe-port 65536")
	s.run("service add x 10.0.0.3:80 --probe-interval 0s")
	s.run("service add x 10.0.0.3:80 --probe-interval 2")
	s.run("service add x 10.0.0.3:80 --probe-interval 1us")
	s.run("service add x 10.0.0.3:80 --probe-timeout -1s")
	s.run("service add x 10.0.0.3:80 --probe-timeout 1h")
	s.run("service add x 10.0.0.3:80 --rise 0")
	s.run("service add x 10.0.0.3:80 --rise many")
	s.run("service add x 10.0.0.3:80 --fall 101")
	s.run("service add x")
	s.run("service list")
	s.golden()
}
