package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sluicelb/sluice/control"
)

// startForwarding is the floor: the kernel routes the packets to one backend.
func startForwarding(_ context.Context, s *site, _ options) error {
	p, err := s.host("forward")
	if err != nil {
		return err
	}
	s.contend("plain forwarding", p, portDirect, udp)
	return p.Route(p.vip+"/32", p.backends[0])
}

// startIPVS has the kernel's IPVS choose by Maglev hashing of address and port (mh-port), as Sluice does.
func startIPVS(ctx context.Context, s *site, _ options) error {
	p, err := s.host("ipvs")
	if err != nil {
		return err
	}
	if err := p.Addr("lo", p.vip+"/32"); err != nil {
		return err
	}
	for port, method := range map[string]string{portDirect: "-g", portTunnel: "-i"} {
		service := []string{"-u", p.vip + ":" + port}
		commands := [][]string{append([]string{"-A"}, append(service, "-s", "mh", "-b", "mh-port")...)}
		for _, backend := range p.backends {
			commands = append(commands, append([]string{"-a"}, append(service, "-r", backend, method)...))
		}
		for _, arguments := range commands {
			command, err := p.Command(ctx, "ipvsadm", arguments...)
			if err == nil {
				err = command.Wait()
			}
			if err != nil {
				return fmt.Errorf("ipvsadm %s: %w: %s", strings.Join(arguments, " "), err, command.Output())
			}
		}
	}
	s.contend("IPVS mh, direct routing", p, portDirect, udp)
	s.contend("IPVS mh, tunnel", p, portTunnel, ipip)
	return nil
}

// startSluice has native XDP on both interfaces; UDP flows are always tracked.
func startSluice(ctx context.Context, s *site, o options) error {
	p, err := s.host("sluice")
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString("services:\n")
	for mode, port := range map[string]string{"l2": portDirect, "ipip": portTunnel} {
		fmt.Fprintf(&text, "- {name: %s, address: %s:%s, protocol: udp, mode: %s, probe: {type: none}, backends: [", mode, p.vip, port, mode)
		for _, backend := range p.backends {
			fmt.Fprintf(&text, "{address: %s}, ", backend)
		}
		text.WriteString("]}\n")
	}
	m, err := control.ParseManifest("the manifest", []byte(text.String()))
	if err != nil {
		return err
	}
	if err := s.StartDaemon(ctx, p.Host, o.sluice, "clients,backends"); err != nil {
		return err
	}
	s.contend("Sluice, l2", p, portDirect, udp)
	s.contend("Sluice, ipip", p, portTunnel, ipip)
	return s.Apply(ctx, m.Services, 3*time.Minute, func(status control.Status) error {
		for _, service := range status.Services {
			for _, b := range service.Backends {
				if !b.NextHop.Resolved {
					return fmt.Errorf("backend %s: %s", b.Name, b.NextHop.Reason)
				}
			}
		}
		return nil
	})
}
