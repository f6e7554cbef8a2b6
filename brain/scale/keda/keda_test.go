package keda

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "github.com/sluicelb/sluice/brain/scale/keda/externalscaler"
)

// dial serves a scaler on a real port of loopback, IPv6, and returns the protocol's own client.
func dial(t *testing.T, s *Scaler) pb.ExternalScalerClient {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	s.Register(server)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewExternalScalerClient(conn)
}

func ref(service string) *pb.ScaledObjectRef {
	return &pb.ScaledObjectRef{Name: "web", Namespace: "shop", ScalerMetadata: map[string]string{"service": service, "scalerAddress": "sluice:9434"}}
}

// KEDA asks as it does: what to look at, whether there is anything to do, and how much.
func TestProtocol(t *testing.T) {
	s := New()
	client := dial(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	spec, err := client.GetMetricSpec(ctx, ref("web"))
	if err != nil || len(spec.MetricSpecs) != 1 || spec.MetricSpecs[0].TargetSizeFloat != 1 {
		t.Fatalf("the metric is %v (%v)", spec, err)
	}
	metric := &pb.GetMetricsRequest{ScaledObjectRef: ref("web"), MetricName: spec.MetricSpecs[0].MetricName}
	// Before anything is decided an error, and never a 0 that would end everything.
	if v, err := client.GetMetrics(ctx, metric); status.Code(err) != codes.NotFound {
		t.Errorf("before anything is decided: %v (%v)", v, err)
	}
	if v, err := client.IsActive(ctx, ref("web")); status.Code(err) != codes.NotFound {
		t.Errorf("before anything is decided: active %v (%v)", v, err)
	}
	for _, want := range []int{3, 70_000, 0} {
		s.Want("web", want)
		v, err := client.GetMetrics(ctx, metric)
		if err != nil || len(v.MetricValues) != 1 || v.MetricValues[0].MetricValueFloat != float64(want) || v.MetricValues[0].MetricValue != int64(want) ||
			v.MetricValues[0].MetricName != metric.MetricName {
			t.Errorf("%d are wanted, and KEDA is told %v (%v)", want, v, err)
		}
		if active, err := client.IsActive(ctx, ref("web")); err != nil || active.Result != (want > 0) {
			t.Errorf("%d are wanted, active: %v (%v)", want, active, err)
		}
	}
	for name, r := range map[string]*pb.ScaledObjectRef{"no service": {Name: "web"}, "no metadata": nil} {
		if _, err := client.GetMetricSpec(ctx, r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Forget("web")
	if _, err := client.GetMetrics(ctx, metric); status.Code(err) != codes.NotFound {
		t.Errorf("after the service ended: %v", err)
	}
}

// A stream says how things are at once, and each change; other services' changes are none.
func TestStream(t *testing.T) {
	s := New()
	client := dial(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := client.StreamIsActive(ctx, ref("web"))
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want bool) {
		t.Helper()
		if got, err := stream.Recv(); err != nil || got.Result != want {
			t.Errorf("active: %v (%v), not %v", got, err, want)
		}
	}
	s.Want("web", 2)
	expect(true)
	s.Want("news", 0)
	s.Want("web", 2)
	s.Want("web", 0)
	expect(false)
	s.Want("web", 1)
	expect(true)
	if wrong, err := client.StreamIsActive(ctx, &pb.ScaledObjectRef{}); err != nil {
		t.Error(err)
	} else if _, err := wrong.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no service: %v", err)
	}
}
