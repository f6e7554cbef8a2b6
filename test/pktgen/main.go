// Command pktgen sends UDP packets to a service with the kernel's packet generator, pktgen, and says how many of them
// its balancer forwarded. It knows nothing of namespaces and virtual machines: it loads whatever host it runs on, and
// belongs on a network of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

const usage = `Send UDP packets to a service with the kernel's packet generator. One after another, every combination of --size,
--flows, --threads and --rate is a row of the table.

    pktgen --destination 203.0.113.10:9 --flows 1,10000 --size 60,512 --metrics http://192.0.2.3:9433/metrics

The service must be of UDP, and nothing need listen at the backends. Interface, MAC address and source address are
those of the route to it. It needs root, and the kernel's module pktgen.

`

// options are the command line.
type options struct {
	target  target
	loads   []load
	metrics string
	json    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "pktgen:", err)
		os.Exit(2)
	}
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pktgen:", err)
		os.Exit(1)
	}
}

// parse reads and checks the command line.
func parse(arguments []string) (options, error) {
	flags := pflag.NewFlagSet("pktgen", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage, flags.FlagUsages()) }
	destination := flags.String("destination", "", "the service, `ADDRESS:PORT`")
	device := flags.String("interface", "", "`NAME` of the interface to send through")
	mac := flags.String("destination-mac", "", "`MAC` of the balancer or the router to it")
	source := flags.String("source", "", "first source `ADDRESS` of the packets")
	sizes := flags.IntSlice("size", nil, "`BYTES` of a frame without its checksum, or several (default the smallest)")
	flows := flags.IntSlice("flows", []int{1000}, "`NUMBER` of flows, or several")
	threads := flags.IntSlice("threads", []int{1}, "`NUMBER` of processors that send, or several")
	rates := flags.IntSlice("rate", []int{0}, "packets per second of all threads together, or several; 0 is as many as can be")
	seconds := flags.Duration("duration", 10*time.Second, "how long each row is sent")
	packets := flags.Uint64("packets", 0, "send so many packets a row instead")
	repeat := flags.Int("repeat", 1, "send each packet so often in a row, without building it again; not through veth")
	o := options{}
	flags.StringVar(&o.metrics, "metrics", "", "`URL` of Sluice's metrics, which count what is forwarded")
	format := flags.StringP("output", "o", "table", "`table|json`")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag; pktgen --help names them", flags.Arg(0))
	}
	if o.json = *format == "json"; !o.json && *format != "table" {
		return o, fmt.Errorf("--output: %q is neither table nor json", *format)
	}
	var err error
	if o.target, err = parseTarget(*destination, *device, *mac, *source); err != nil {
		return o, err
	}
	if len(*sizes) == 0 {
		*sizes = []int{o.target.smallest()}
	}
	base := load{Packets: *packets, duration: *seconds, repeat: *repeat}
	for _, base.Size = range *sizes {
		for _, base.Flows = range *flows {
			for _, base.Threads = range *threads {
				for _, base.Rate = range *rates {
					if err := base.check(o.target); err != nil {
						return o, err
					}
					o.loads = append(o.loads, base)
				}
			}
		}
	}
	return o, nil
}

func parseTarget(destination, device, mac, source string) (t target, err error) {
	if t.destination, err = netip.ParseAddrPort(destination); err != nil || t.destination.Port() == 0 {
		return t, fmt.Errorf("--destination: %q is no address and port such as 203.0.113.10:9 or [2001:db8::10]:9", destination)
	}
	t.device = device
	if mac != "" {
		if t.mac, err = net.ParseMAC(mac); err != nil || len(t.mac) != 6 {
			return t, fmt.Errorf("--destination-mac: %q is no MAC address such as 02:00:00:00:00:01", mac)
		}
	}
	if source != "" {
		if t.source, err = netip.ParseAddr(source); err != nil || t.source.Is4() != t.destination.Addr().Is4() {
			return t, fmt.Errorf("--source: %q is no address of the destination's family", source)
		}
	}
	return t, nil
}

// run sends every load and prints the results. Interrupted, it stops the kernel's threads.
func run(ctx context.Context, o options, out io.Writer) error {
	g, err := open()
	if err != nil {
		return err
	}
	if err := o.target.complete(ctx); err != nil {
		return err
	}
	if !o.json {
		fmt.Fprintf(out, "%s from %s through %s to %s\n%s\n", o.target.destination, o.target.source, o.target.device, o.target.mac, header)
	}
	encoder := json.NewEncoder(out)
	for _, l := range o.loads {
		r, err := measure(ctx, g, o.target, l, o.metrics)
		if err != nil {
			return err
		}
		if o.json {
			err = encoder.Encode(r)
		} else {
			_, err = fmt.Fprintln(out, r)
		}
		if err = errors.Join(err, context.Cause(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// measure sends one load, and has the balancer's counters read before and after, where that is wanted.
func measure(ctx context.Context, g *generator, t target, l load, metrics string) (result, error) {
	var before counters
	var err error
	if metrics != "" {
		if before, err = scrape(ctx, metrics); err != nil {
			return result{}, err
		}
	}
	r := result{load: l}
	if r.sent, err = g.send(ctx, t, l); err != nil || metrics == "" {
		return r, err
	}
	after, err := scrape(context.WithoutCancel(ctx), metrics)
	if err != nil {
		return r, err
	}
	r.counted = after.since(before)
	return r, nil
}
