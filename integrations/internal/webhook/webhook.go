// Package webhook makes one HTTP request per attempt: signed, guarded, with a deadline and a limit on the size of the response.
// It judges responses like the workers in Tessera's own binary.
package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/internal/weburl"
	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// Deadline is the timeout of an attempt: resolving, connecting, the request, and the response with its body together.
	Deadline = 20 * time.Second
	// readMax is the maximum number of bytes that are read from the body of a response.
	readMax = 64 * 1024
	// headMax is the maximum size of the headers of a response, in bytes.
	headMax = 400 * 1024
	// idleTimeout is how long an idle connection is kept for the next webhook to the same host.
	idleTimeout = 15 * time.Second
	// idlePerHost and idleMax are the maximum number of idle connections, per host and in total.
	idlePerHost, idleMax = 4, 256
	// askedMax is the upper limit for Retry-After; Tessera grants much less.
	askedMax = (1<<32 - 1) * time.Second
)

// reserved are the headers that belong to Tessera or to the connection; a scrip cannot set them. Tessera has the same list, and
// sets Tessera-Depth, which is not in it.
var reserved = []string{
	idHeader, timestampHeader, signatureHeader, "Connection", "Content-Length", "Expect", "Host", "HTTP2-Settings", "Keep-Alive",
	"Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
}

// A Transport sends webhooks. It keeps connections open between attempts, so a process should have only one.
type Transport struct {
	client   *http.Transport
	guard    Guard
	agent    string
	deadline time.Duration
	now      func() time.Time
}

// New returns a transport to the addresses that the guard allows; agent is its User-Agent.
func New(guard Guard, agent string) *Transport {
	return newTransport(&dialer{guard: guard, resolve: systemResolver}, agent)
}

func newTransport(dialer *dialer, agent string) *Transport {
	client := &http.Transport{
		DialContext: dialer.dial, DialTLSContext: dialer.dialTLS, ForceAttemptHTTP2: true,
		DisableCompression: true, MaxResponseHeaderBytes: headMax,
		IdleConnTimeout: idleTimeout, MaxIdleConnsPerHost: idlePerHost, MaxIdleConns: idleMax,
	}
	return &Transport{client: client, guard: dialer.guard, agent: agent, deadline: Deadline, now: time.Now}
}

// Close closes idle connections.
func (t *Transport) Close() {
	t.client.CloseIdleConnections()
}

// Send makes one attempt at the delivery with the given id. Every failure is part of the returned attempt.
func (t *Transport) Send(ctx context.Context, id string, webhook *tesserav1.WebhookRequest) attempt.Attempt {
	now := t.now()
	request, made := t.request(id, webhook, now)
	if request != nil {
		made = t.exchange(ctx, request, now)
	}
	return made.Masked(tessera.NewMask(webhook.GetSecrets()).Text)
}

// request returns the request, or the failed attempt if the request is invalid.
func (t *Transport) request(id string, webhook *tesserav1.WebhookRequest, now time.Time) (*http.Request, attempt.Attempt) {
	fail := func(outcome tesserav1.Outcome, format string, values ...any) (*http.Request, attempt.Attempt) {
		return nil, attempt.New(outcome, fmt.Sprintf(format, values...))
	}
	url, err := weburl.Parse(webhook.GetUrl())
	if err != nil {
		return fail(attempt.Permanent, "the URL is invalid: %v", err)
	}
	if url.Literal.IsValid() {
		if err := t.guard.Check(url.Literal); err != nil {
			return fail(attempt.Retry, "%v", err)
		}
	}
	if !httpguts.ValidHeaderFieldName(webhook.GetMethod()) {
		return fail(attempt.Permanent, "\"%s\" is not a valid HTTP method", webhook.GetMethod())
	}
	header, fault := headers(webhook)
	if fault != nil {
		return nil, *fault
	}
	header.Set(timestampHeader, strconv.FormatInt(now.Unix(), 10))
	header.Set(idHeader, id)
	if secret := webhook.GetSigningKey(); secret != "" {
		key, err := parseKey(secret)
		if err != nil {
			return fail(attempt.Retry, "%s cannot sign: %v", nameOf(secret, webhook.GetSecrets()), err)
		}
		header.Set(signatureHeader, sign(key, id, now.Unix(), webhook.GetBody()))
	}
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", t.agent)
	}
	if header.Get("Accept") == "" {
		header.Set("Accept", "*/*")
	}
	body := bytes.NewReader(webhook.GetBody())
	request, err := http.NewRequest(webhook.GetMethod(), "http://placeholder.invalid/", body)
	if err != nil {
		return fail(attempt.Permanent, "the request is invalid: %v", err)
	}
	request.URL, request.Host, request.Header = url.URL, url.Host, header
	return request, attempt.Attempt{}
}

// headers returns the headers of the scrip, or the failed attempt if they are invalid.
func headers(webhook *tesserav1.WebhookRequest) (http.Header, *attempt.Attempt) {
	header := http.Header{"Content-Type": {"application/json"}}
	fail := func(outcome tesserav1.Outcome, detail string) (http.Header, *attempt.Attempt) {
		failed := attempt.New(outcome, detail)
		return nil, &failed
	}
	for _, one := range webhook.GetHeaders() {
		name, value := one.GetName(), one.GetValue()
		isReserved := slices.ContainsFunc(reserved, func(header string) bool { return strings.EqualFold(header, name) })
		if isReserved || !httpguts.ValidHeaderFieldName(name) {
			return fail(attempt.Permanent, fmt.Sprintf("the header \"%s\" cannot be set by a scrip", name))
		}
		if !httpguts.ValidHeaderFieldValue(value) {
			// An operator can correct a secret, so the delivery is retried.
			if secret := nameOf(value, webhook.GetSecrets()); secret != unnamed {
				return fail(attempt.Retry, secret+" contains a line break, so it cannot be used in a header")
			}
			return fail(attempt.Permanent, fmt.Sprintf("the value of the header \"%s\" contains a control character", name))
		}
		header.Set(name, value)
	}
	return header, nil
}

// unnamed is the name in messages for a key that is not among the secrets.
const unnamed = "the signing key"

// nameOf returns the name of the secret with a value, for messages.
func nameOf(value string, secrets map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if secrets[name] == value {
			return fmt.Sprintf("secret \"%s\"", name)
		}
	}
	return unnamed
}

func (t *Transport) exchange(ctx context.Context, request *http.Request, now time.Time) attempt.Attempt {
	ctx, cancel := context.WithTimeout(ctx, t.deadline)
	defer cancel()
	response, err := t.client.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return t.unanswered(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	status := response.StatusCode
	outcome, detail := judge(status)
	asked := retryAfter(response.Header.Get("Retry-After"), now)
	if status == http.StatusTooManyRequests {
		asked = max(asked, attempt.TroubleWait)
	}
	body, cut := read(ctx, response.Body)
	made := attempt.New(outcome, detail+cut)
	made.StatusCode, made.Health, made.Wait, made.Response = status, health(status), asked, body
	return made
}

// unanswered returns the attempt for a request without a response.
func (t *Transport) unanswered(ctx context.Context, err error) attempt.Attempt {
	var refused *Refused
	if errors.As(err, &refused) {
		return attempt.New(attempt.Retry, refused.Error())
	}
	detail, wait := "the request failed: "+attempt.Bottom(err), time.Duration(0)
	var unconnected connectError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		seconds := strconv.FormatFloat(t.deadline.Seconds(), 'f', -1, 32)
		detail, wait = "no answer within "+seconds+" s", attempt.TroubleWait
	case errors.Is(err, errConnectTimeout):
		detail, wait = fmt.Sprintf("could not connect within %.0f s", connectTimeout.Seconds()), attempt.TroubleWait
	case errors.As(err, &unconnected):
		detail = "could not connect: " + attempt.Bottom(err)
	}
	made := attempt.New(attempt.Retry, detail)
	made.Health, made.Wait = attempt.Fails, wait
	return made
}

// read reads the body of a response up to readMax and the deadline. A failure does not change the outcome, or a receiver that
// accepted the webhook would get it again; the second result is an addition to the detail that says why reading stopped.
func read(ctx context.Context, body io.Reader) (string, string) {
	got, err := io.ReadAll(io.LimitReader(body, readMax+1))
	cut := ""
	switch {
	case len(got) > readMax:
		got, cut = got[:readMax], "; the response body exceeds the read limit"
	case err != nil && ctx.Err() != nil:
		cut = "; the response body did not end in time"
	case err != nil:
		cut = "; the response body is incomplete"
	}
	return attempt.Text(got), cut
}

// retryAfter returns the delay from a Retry-After header (RFC 9110, 10.2.3), which is a number of seconds or a date. It
// returns 0 if the header is missing or invalid.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(askedMax/time.Second) {
			return askedMax
		}
		return time.Duration(seconds) * time.Second
	}
	date, err := mail.ParseDate(value)
	if err != nil {
		return 0
	}
	return max(date.Sub(now), 0)
}
