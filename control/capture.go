package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicelb/sluice/dataplane"
)

// CaptureRequest says which packets to show.
type CaptureRequest struct {
	Service string `query:"service" doc:"Name or address; empty: of every service and of none"`
	Reason  string `query:"reason" doc:"How they end; empty: in any way"`
	Every   uint32 `query:"every" doc:"Of the packets that fit, one of so many, by chance; 0 is 1"`
}

// CapturedPacket is a packet as it came and as it left. Of frames longer than 2,048 bytes the rest is missing.
type CapturedPacket struct {
	Time         time.Time `json:"time"`
	Interface    string    `json:"interface"`
	Action       string    `json:"action" enum:"tx,redirect,pass,drop"`
	Reason       string    `json:"reason"`
	Service      string    `json:"service"`
	Backend      string    `json:"backend"`
	Before       []byte    `json:"before"`
	After        []byte    `json:"after"`
	BeforeLength int       `json:"before-length" doc:"Bytes of the whole frame"`
	AfterLength  int       `json:"after-length"`
	Lost         uint64    `json:"lost,omitempty" doc:"How many that fit were not shown so far, for they came too fast"`
}

// A capture whose client has just gone is waited for so long.
const (
	endAttempts = 10
	endInterval = 100 * time.Millisecond
)

// capture serves the packets as a sequence of JSON objects for as long as the client listens.
func (d *Daemon) capture(ctx context.Context, r *CaptureRequest) (*huma.StreamResponse, error) {
	filter := dataplane.Filter{Reason: r.Reason, Every: r.Every}
	if r.Service != "" {
		m := d.store.Manifest()
		i, err := m.find(r.Service)
		if err != nil {
			return nil, statusError(err)
		}
		filter.Service = new(m.Services[i].Key())
	}
	capture, err := d.dataplane.Capture(filter)
	for range endAttempts {
		if !errors.Is(err, dataplane.ErrBusy) || ctx.Err() != nil {
			break
		}
		time.Sleep(endInterval)
		capture, err = d.dataplane.Capture(filter)
	}
	switch {
	case errors.Is(err, dataplane.ErrBusy):
		return nil, huma.Error409Conflict(err.Error())
	case errors.Is(err, dataplane.ErrFilter):
		return nil, huma.Error422UnprocessableEntity(err.Error())
	case err != nil:
		return nil, statusError(err)
	}
	return &huma.StreamResponse{Body: func(out huma.Context) { d.streamCapture(out, capture) }}, nil
}

func (d *Daemon) streamCapture(out huma.Context, capture *dataplane.Capture) {
	out.SetHeader("Content-Type", "application/x-ndjson")
	writer := out.BodyWriter()
	flush := func() {
		if flusher, ok := writer.(http.Flusher); ok {
			flusher.Flush()
		}
	}
	flush() // the client learns that it has begun
	encoder := json.NewEncoder(writer)
	err := capture.Run(out.Context(), func(p dataplane.Captured) bool {
		service, backend := d.store.Manifest().names(p.Verdict)
		err := encoder.Encode(CapturedPacket{
			Time: p.Time, Interface: p.Interface, Action: p.Action, Reason: p.Reason, Service: service, Backend: backend,
			Before: p.Before, After: p.After, BeforeLength: p.BeforeLength, AfterLength: p.AfterLength, Lost: p.Lost,
		})
		flush()
		return err == nil
	})
	if err != nil {
		d.log.Error("capture ended", "error", err)
	}
}

// Capture calls show with the packets until ctx ends or show returns false. begun is called when the daemon shows
// packets; its error ends the capture. That the daemon ended is an ErrUnreachable.
func (c *Client) Capture(ctx context.Context, r CaptureRequest, begun func() error, show func(CapturedPacket) bool) error {
	query := url.Values{"service": {r.Service}, "reason": {r.Reason}, "every": {strconv.Itoa(int(r.Every))}}
	body, err := c.stream(ctx, "/v1/capture", query)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := begun(); err != nil {
		return err
	}
	decoder := json.NewDecoder(body)
	for {
		var p CapturedPacket
		if err := decoder.Decode(&p); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return tag(ErrUnreachable, "the daemon ended the capture: did it stop? its log says why")
		}
		if !show(p) {
			return nil
		}
	}
}
