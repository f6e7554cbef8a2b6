package executor

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Webhook posts each order as JSON. With a secret it is signed: the header Sluice-Signature is "t=TIME,v1=MAC", where TIME is Unix seconds and
// MAC the HMAC-SHA-256 (RFC 2104) of TIME, a dot and the body, in hexadecimal. The header Idempotency-Key is the order's key. The answer
// may have a Result as JSON.
type Webhook struct {
	URL    string
	Secret []byte
	Client *http.Client // nil is http.DefaultClient
}

// Execute posts the order. Any status of 200 to 299 is success; one of 400 to 499 is a permanent error, but for 408, 409, 425 and 429.
func (w Webhook) Execute(ctx context.Context, o Order) (Result, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return Result{}, Permanent(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return Result{}, Permanent(withoutURL(err))
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", o.Key)
	if len(w.Secret) > 0 {
		request.Header.Set("Sluice-Signature", Sign(w.Secret, time.Now(), body))
	}
	output, err := answer(w.Client, request)
	if err != nil {
		return Result{}, fmt.Errorf("the webhook at %s: %w", request.URL.Host, err)
	}
	return parseResult(output, "the webhook at "+request.URL.Host)
}

// Sign returns the value of the header Sluice-Signature for a body.
func Sign(secret []byte, now time.Time, body []byte) string {
	stamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return "t=" + stamp + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// Verify says whether a signature is right, and not older or younger than some time.
func Verify(secret []byte, signature string, body []byte, now time.Time, within time.Duration) bool {
	var stamp int64
	var mac string
	if n, err := fmt.Sscanf(signature, "t=%d,v1=%s", &stamp, &mac); err != nil || n != 2 {
		return false
	}
	at := time.Unix(stamp, 0)
	return now.Sub(at).Abs() <= within && hmac.Equal([]byte(Sign(secret, at, body)), []byte(signature))
}

// answer sends a request and reads what comes.
func answer(client *http.Client, request *http.Request) (*bounded, error) {
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer response.Body.Close()
	output := &bounded{most: mostOutput}
	if _, err := io.Copy(output, io.LimitReader(response.Body, mostOutput+1)); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return output, nil
	}
	err = &statusError{response.StatusCode, response.Status + output.tail()}
	switch response.StatusCode {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return nil, err
	}
	if response.StatusCode >= 400 && response.StatusCode < 500 {
		err = Permanent(err)
	}
	return nil, err
}

// statusError is an answer that says no.
type statusError struct {
	code int
	text string
}

// Error returns for example "503 Service Unavailable: try later".
func (e *statusError) Error() string { return e.text }

// withoutURL is an error of a request without its address, which may hold a password.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
