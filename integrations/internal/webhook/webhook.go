// Package webhook makes one HTTP request per attempt: signed, guarded, within one deadline, and read no further than a
// limit. What comes of a request is judged as the workers in Tessera's own binary judge it.
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
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// Deadline is how long an attempt may take: resolving, connecting, the request, the answer and its body together.
	Deadline = 20 * time.Second
	// readMax is how much of an answer's body is read, in bytes; what comes after it is left on the wire.
	readMax = 64 * 1024
	// headMax is how large the head of an answer may be, in bytes.
	headMax = 400 * 1024
	// idleTimeout is how long a connection waits for the next webhook to the same host.
	idleTimeout = 15 * time.Second
	// idlePerHost and idleMax are how many such connections a host, and all of them, may have.
	idlePerHost, idleMax = 4, 256
	// askedMax bounds what a receiver may ask to be left alone; Tessera grants far less of it.
	askedMax = (1<<32 - 1) * time.Second
)

// reserved are the headers that belong to the transport; a scrip cannot set them.
var reserved = []string{
	idHeader, timestampHeader, signatureHeader, "Connection", "Content-Length", "Expect", "Host", "Keep-Alive",
	"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// A Transport sends webhooks. One for the whole process: it keeps connections open between attempts.
type Transport struct {
	client   *http.Transport
	guard    Guard
	agent    string
	deadline time.Duration
	now      func() time.Time
}

// New returns a transport that reaches what the guard lets through, and calls itself agent.
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

// Close closes the connections that lie idle.
func (t *Transport) Close() {
	t.client.CloseIdleConnections()
}

// Send makes one attempt of the delivery with the given id. Nothing fails: whatever happens is what the attempt came to.
func (t *Transport) Send(ctx context.Context, id string, webhook *tesserav1.WebhookRequest) attempt.Attempt {
	now := t.now()
	request, made := t.request(id, webhook, now)
	if request != nil {
		made = t.exchange(ctx, request, now)
	}
	return withoutSecrets(made, webhook.GetSecrets())
}

// request returns the request, or the attempt that ended before it could be made.
func (t *Transport) request(id string, webhook *tesserav1.WebhookRequest, now time.Time) (*http.Request, attempt.Attempt) {
	fail := func(outcome tesserav1.Outcome, format string, values ...any) (*http.Request, attempt.Attempt) {
		return nil, attempt.New(outcome, fmt.Sprintf(format, values...))
	}
	url, err := weburl.Parse(webhook.GetUrl())
	if err != nil {
		return fail(attempt.Permanent, "the URL cannot be read: %v", err)
	}
	if url.Literal.IsValid() {
		if err := t.guard.Check(url.Literal); err != nil {
			return fail(attempt.Retry, "%v", err)
		}
	}
	if !httpguts.ValidHeaderFieldName(webhook.GetMethod()) {
		return fail(attempt.Permanent, "\"%s\" is no HTTP method", webhook.GetMethod())
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
		return fail(attempt.Permanent, "the request cannot be made: %v", err)
	}
	request.URL, request.Host, request.Header = url.URL, url.Host, header
	return request, attempt.Attempt{}
}

// headers returns the scrip's headers, or the attempt that cannot be made with them.
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
			// A secret can be put right, so the delivery waits for that.
			if secret := nameOf(value, webhook.GetSecrets()); secret != unnamed {
				return fail(attempt.Retry, secret+" holds a line break and cannot be a header")
			}
			return fail(attempt.Permanent, fmt.Sprintf("the value of the header \"%s\" holds a control character", name))
		}
		header.Set(name, value)
	}
	return header, nil
}

// unnamed is what a key is called that is none of the secrets.
const unnamed = "the signing key"

// nameOf names the secret that has a value, for a sentence.
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

// unanswered returns the attempt that got no answer: a refusal of the guard in its own words, else what lies at the bottom.
func (t *Transport) unanswered(ctx context.Context, err error) attempt.Attempt {
	var refused *Refused
	if errors.As(err, &refused) {
		return attempt.New(attempt.Retry, refused.Error())
	}
	detail, wait := "the exchange broke off: "+attempt.Bottom(err), time.Duration(0)
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

// read reads an answer up to readMax and the deadline. What the status says stands whatever the body does, or a receiver
// that took the webhook would get it again; the second text says where reading stopped.
func read(ctx context.Context, body io.Reader) (string, string) {
	got, err := io.ReadAll(io.LimitReader(body, readMax+1))
	cut := ""
	switch {
	case len(got) > readMax:
		got, cut = got[:readMax], "; its body is longer than is read"
	case err != nil && ctx.Err() != nil:
		cut = "; its body did not end in time"
	case err != nil:
		cut = "; its body broke off"
	}
	return attempt.Text(got), cut
}

// withoutSecrets returns the attempt with the secrets blotted out, and the answer cut: a receiver may send back what it got.
func withoutSecrets(made attempt.Attempt, secrets map[string]string) attempt.Attempt {
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		value := secrets[name]
		key := strings.TrimPrefix(value, keyPrefix)
		for _, form := range []string{value, key, strings.Trim(quoted(key), `"`)} {
			if form != "" {
				blot := "(secret " + name + ")"
				made.Detail = strings.ReplaceAll(made.Detail, form, blot)
				made.Response = strings.ReplaceAll(made.Response, form, blot)
			}
		}
	}
	made.Detail, made.Response = attempt.Sentence(made.Detail), attempt.Excerpt(made.Response)
	return made
}

// quoted writes text as JSON does, escaping no more than must be.
func quoted(text string) string {
	short := map[rune]string{
		'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`,
	}
	var json strings.Builder
	for _, r := range text {
		if escape, found := short[r]; found {
			json.WriteString(escape)
		} else if r < ' ' {
			fmt.Fprintf(&json, `\u%04x`, r)
		} else {
			json.WriteRune(r)
		}
	}
	return `"` + json.String() + `"`
}

// retryAfter returns what a Retry-After asks for (RFC 9110, 10.2.3): seconds, or a date, which is compared with now. It is 0
// when it is neither.
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
