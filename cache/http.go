package cache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelb/sluice/cache/record"
)

// HTTP is a Loader that reads values with GET, and asks again with the entity tag of what is known (RFC 9110, section
// 13.1.2) so that an unchanged value is not sent twice. 404 and 410 are ErrNotFound; max-age, no-store and no-cache of Cache-Control
// (RFC 9111, section 5.2.2) say for how long a value is fresh.
type HTTP[V any] struct {
	URL    string       // http or https; the key follows, escaped
	Client *http.Client // nil: http.DefaultClient
	Header http.Header  // of every request
	Decode func([]byte) (V, error)
}

// Load asks the server.
func (h *HTTP[V]) Load(ctx context.Context, key, tag string) (loaded Loaded[V], err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+url.PathEscape(key), nil)
	if err != nil {
		return loaded, fmt.Errorf("asking for %q: %w", key, err)
	}
	for name, values := range h.Header {
		request.Header[name] = values
	}
	if tag != "" {
		request.Header.Set("If-None-Match", tag)
	}
	client := h.Client
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return loaded, fmt.Errorf("asking for %q: %w", key, err)
	}
	defer response.Body.Close()
	loaded.Tag, loaded.Fresh = response.Header.Get("ETag"), maxAge(response.Header.Get("Cache-Control"))
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return loaded, ErrNotModified
	case http.StatusNotFound, http.StatusGone:
		return loaded, ErrNotFound
	default:
		return loaded, fmt.Errorf("asking for %q: the server answers %s", key, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, record.MaxPayload+1))
	switch {
	case err != nil:
		return loaded, fmt.Errorf("reading %q: %w", key, err)
	case len(body) > record.MaxPayload:
		return loaded, fmt.Errorf("reading %q: it has more than %d bytes", key, record.MaxPayload)
	}
	if loaded.Value, err = h.Decode(body); err != nil {
		return loaded, fmt.Errorf("reading %q: %w", key, err)
	}
	return loaded, nil
}

// maxAge returns for how long an answer is fresh; 0: that is not said. What must not be kept is fresh for a nanosecond.
func maxAge(control string) (age time.Duration) {
	for directive := range strings.SplitSeq(control, ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return 1
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				age = max(time.Duration(seconds)*time.Second, 1)
			}
		}
	}
	return age
}
