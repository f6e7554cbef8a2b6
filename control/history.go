package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicelb/sluice/brain/history"
)

// HistoryRequest says which minutes of a service to send.
type HistoryRequest struct {
	Service string    `path:"service" doc:"Name or address"`
	From    time.Time `query:"from" doc:"The first minute, in RFC 3339. Default: 90 days ago"`
	To      time.Time `query:"to" doc:"The end. Default: now"`
}

// importRequest is a file of what was measured elsewhere.
type importRequest struct {
	Service string `path:"service" doc:"Name or address"`
	Column  string `query:"column" doc:"What becomes the new flows. Default: the columns that are called as in the history, and otherwise the first one"`
	RawBody []byte `contentType:"text/csv" doc:"CSV, or Prometheus' answer to a query_range; both may be compressed with gzip"`
}

const historyPath = service + "/history"

func (d *Daemon) registerHistory(api huma.API) {
	huma.Register(api, operation("history", http.MethodGet, historyPath, "What was measured of a service, as a JSON object for each minute", 404, 422),
		func(_ context.Context, in *HistoryRequest) (*huma.StreamResponse, error) {
			name, err := d.serviceName(in.Service)
			if err != nil {
				return nil, statusError(err)
			}
			to := in.To
			if to.IsZero() {
				to = d.clock.now()
			}
			from := in.From
			if oldest := to.Add(-history.Retention); from.Before(oldest) {
				from = oldest
			}
			return &huma.StreamResponse{Body: func(out huma.Context) { d.streamHistory(out, name, from, to) }}, nil
		})
	huma.Register(api, operation("import-history", http.MethodPost, historyPath, "Import what was measured of a service elsewhere, all or nothing", 404, 422),
		func(_ context.Context, in *importRequest) (*answer[history.Imported], error) {
			name, err := d.serviceName(in.Service)
			if err != nil {
				return nil, statusError(err)
			}
			file, err := d.history.Parse(bytes.NewReader(in.RawBody), in.Column, d.clock.now())
			if err != nil {
				return nil, huma.Error422UnprocessableEntity(err.Error())
			}
			return reply(file.Imported, d.imported(name, d.history.Import(name, file)))
		})
}

// imported has those who learn from a service's history know that it is another one.
func (d *Daemon) imported(name string, err error) error {
	if err != nil {
		return err
	}
	d.scaler.imported(name)
	return d.forecasts.Imported(name)
}

func (d *Daemon) serviceName(ref string) (string, error) {
	m := d.store.Manifest()
	i, err := m.find(ref)
	if err != nil {
		return "", err
	}
	return m.Services[i].Name, nil
}

// historyPiece is how much is read at once, so that a slow reader neither takes memory nor holds up the store.
const historyPiece = 24 * time.Hour

// streamHistory ends without an error where the history cannot be read; the client notices that the connection ends.
func (d *Daemon) streamHistory(out huma.Context, name string, from, to time.Time) {
	out.SetHeader("Content-Type", "application/x-ndjson")
	encoder := json.NewEncoder(out.BodyWriter())
	for ; from.Before(to); from = from.Add(historyPiece) {
		end := from.Add(historyPiece)
		if end.After(to) {
			end = to
		}
		points, err := d.history.Points(name, from, end)
		if err != nil {
			d.log.Error("cannot send the history", "service", name, "error", err)
			panic(http.ErrAbortHandler)
		}
		for _, p := range points {
			if encoder.Encode(p) != nil {
				return
			}
		}
	}
}

// History calls show with each minute of a service of which something is known, in order.
func (c *Client) History(ctx context.Context, r HistoryRequest, show func(history.Point)) error {
	query := make(url.Values)
	for name, at := range map[string]time.Time{"from": r.From, "to": r.To} {
		if !at.IsZero() {
			query.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	body, err := c.stream(ctx, servicePath(r.Service)+"/history", query)
	if err != nil {
		return err
	}
	defer body.Close()
	decoder := json.NewDecoder(body)
	for {
		var p history.Point
		err := decoder.Decode(&p)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return cmp.Or(ctx.Err(), fmt.Errorf("reading the history of %s: %w", r.Service, err))
		}
		show(p)
	}
}

// ImportHistory imports a file, as CSV or as an answer of Prometheus, and replaces what was known of the same minutes of a
// service. Column is what becomes the new flows; "" are all columns that are called as in the history, or the first one.
func (c *Client) ImportHistory(ctx context.Context, service, column string, file io.Reader) (history.Imported, error) {
	path := servicePath(service) + "/history?" + url.Values{"column": {column}}.Encode()
	return call[history.Imported](ctx, c, http.MethodPost, path, file)
}
