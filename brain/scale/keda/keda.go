// Package keda is an external scaler of KEDA: KEDA asks how many instances there shall be, and has Kubernetes' autoscaler make it so.
//
// A ScaledObject names the service in its trigger:
//
//	triggers:
//	- type: external-push            # or external, which polls
//	  metadata: {scalerAddress: "sluice.example:9434", service: web}
//
// The metric is the number of instances that are wanted, with a target of 1 for each.
package keda

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/sluicelb/sluice/brain/scale/keda/externalscaler"
)

// metricName is the metric's.
const metricName = "sluice-instances"

// serviceKey is the key of a trigger's metadata that names the service.
const serviceKey = "service"

// Scaler tells KEDA what is wanted. It is safe for concurrent use.
type Scaler struct {
	pb.UnimplementedExternalScalerServer

	mu     sync.Mutex
	wanted map[string]int
	more   chan struct{} // closed and replaced when something changes
}

// New returns a scaler that wants nothing yet.
func New() *Scaler { return &Scaler{wanted: make(map[string]int), more: make(chan struct{})} }

// Register has a server answer KEDA.
func (s *Scaler) Register(server grpc.ServiceRegistrar) { pb.RegisterExternalScalerServer(server, s) }

// Want sets how many instances of a service there shall be, 0 or more.
func (s *Scaler) Want(service string, instances int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, known := s.wanted[service]; known && was == instances {
		return
	}
	s.wanted[service] = instances
	close(s.more)
	s.more = make(chan struct{})
}

// Forget ends a service.
func (s *Scaler) Forget(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wanted, service)
	close(s.more)
	s.more = make(chan struct{})
}

// of returns how many instances are wanted of the service that a trigger names, and what is closed when that may have changed.
func (s *Scaler) of(ref *pb.ScaledObjectRef) (int, <-chan struct{}, error) {
	service := ref.GetScalerMetadata()[serviceKey]
	if service == "" {
		return 0, nil, status.Errorf(codes.InvalidArgument, "the trigger of %s/%s does not say which service: give the key %q in its metadata", ref.GetNamespace(), ref.GetName(), serviceKey)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	instances, known := s.wanted[service]
	if !known {
		// KEDA keeps what there is (or its fallback) when it gets an error; 0 would end everything.
		return 0, s.more, status.Errorf(codes.NotFound, "nothing is decided of service %q", service)
	}
	return instances, s.more, nil
}

// IsActive says whether there shall be any instance.
func (s *Scaler) IsActive(_ context.Context, ref *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	instances, _, err := s.of(ref)
	if err != nil {
		return nil, err
	}
	return &pb.IsActiveResponse{Result: instances > 0}, nil
}

// StreamIsActive says it now, and whenever how many are wanted has changed. A service of which nothing is decided yet is waited for.
func (s *Scaler) StreamIsActive(ref *pb.ScaledObjectRef, stream grpc.ServerStreamingServer[pb.IsActiveResponse]) error {
	said := -1
	for {
		instances, more, err := s.of(ref)
		if more == nil {
			return err
		}
		if err == nil && instances != said {
			if err := stream.Send(&pb.IsActiveResponse{Result: instances > 0}); err != nil {
				return err
			}
			said = instances
		}
		select {
		case <-more:
		case <-stream.Context().Done():
			if errors.Is(stream.Context().Err(), context.Canceled) {
				return nil
			}
			return stream.Context().Err()
		}
	}
}

// GetMetricSpec says that each instance counts 1.
func (s *Scaler) GetMetricSpec(_ context.Context, ref *pb.ScaledObjectRef) (*pb.GetMetricSpecResponse, error) {
	if _, more, err := s.of(ref); more == nil {
		return nil, err
	}
	return &pb.GetMetricSpecResponse{MetricSpecs: []*pb.MetricSpec{{MetricName: metricName, TargetSize: 1, TargetSizeFloat: 1}}}, nil
}

// GetMetrics says how many instances are wanted.
func (s *Scaler) GetMetrics(_ context.Context, r *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	instances, _, err := s.of(r.GetScaledObjectRef())
	if err != nil {
		return nil, err
	}
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{
		{MetricName: metricName, MetricValue: int64(instances), MetricValueFloat: float64(instances)},
	}}, nil
}
