package tessera

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// Limits of what is said of an attempt; what is longer is cut.
const (
	// DetailMax is the length of a sentence, in characters.
	DetailMax = 500
	// ResponseMax is how much of an answer is kept, in bytes.
	ResponseMax = 4096
)

// ErrLeaseLost is the cause of a handler's context that ends because the delivery is no longer this connector's: the lease ran out, or a
// person cancelled the delivery. See [context.Cause].
var ErrLeaseLost = errors.New("the lease of this delivery is lost")

// ErrStopping is the cause of a handler's context that ends because the connector stops and the attempt took longer than
// [Config.Drain].
var ErrStopping = errors.New("the connector is stopping")

// Handler makes one attempt at a delivery. What it returns is the decision: nil means delivered; an error means that the schedule of
// the kind says when it is tried again; [Permanent] gives it up; [RetryAfter] says when at the earliest. The words of an error are kept
// for people to read, so they must not hold a secret: that of a failed request may have the URL in it (see [url.Error]).
//
// A handler is called from as many goroutines as [Config].Concurrency says, and should return soon after ctx ends: nil when it was
// delivered all the same, which is believed, else an error, after which it is tried again. When the connector stops, it is given back
// then, and the attempt does not count. A panic counts as an error.
//
// A delivery is at least once: a handler may see one again whose success was never heard of. Its ID is the same at every attempt.
type Handler func(ctx context.Context, delivery *Delivery) error

// Delivery is what a scrip wants delivered.
type Delivery struct {
	// ID is the same at every attempt; a receiver that keeps it takes each delivery once.
	ID string
	// Kind is what the connector is for.
	Kind string
	// Endpoint is where it goes, as far as Tessera knows: the kind, unless it is an email or a webhook.
	Endpoint string
	// Attempt counts from 1.
	Attempt int
	// CreatedAt is when the scrip made it.
	CreatedAt time.Time
	// Ticket is what it is about.
	Ticket Ticket
	// TransactionID is the line of the ticket's history that caused it.
	TransactionID string
	// Depth is how many deliveries, each made because of the one before, led to this one. A [Client] that is called with the
	// handler's context tells Tessera.
	Depth int
	// JSON is the payload of every kind but email and webhook: it fits the kind's schema, and is the same at every attempt.
	JSON []byte
	// Email is the payload of the kind email.
	Email *tesserav1.EmailMessage
	// Webhook is the payload of the kind webhook.
	Webhook *tesserav1.WebhookRequest

	lease  int64
	report lockedReport
}

// Ticket names a ticket.
type Ticket struct {
	// ID is a UUID.
	ID string
	// Number is what people call it.
	Number int64
	// URL is where people see it.
	URL string
}

// Report says more about an attempt than an error can.
type Report struct {
	// StatusCode is the receiver's, of HTTP or SMTP; 0 when it gave none.
	StatusCode int
	// Detail is one sentence for a person. Default: the words of the error, or "delivered".
	Detail string
	// Response is the beginning of what the receiver answered.
	Response string
	// Recipients is what a mail server said of each recipient that was asked.
	Recipients []*tesserav1.RecipientAnswer
	// Health is what the attempt says of its endpoint, whatever became of the message. Default: that it works, when the handler
	// returns nil, else nothing. An endpoint that fails 10 times in a row is tried with one delivery at a time. So say
	// tesserav1.Health_HEALTH_FAILS of one that cannot be reached, and tesserav1.Health_HEALTH_WORKS of one that refused the message;
	// the package is tessera.dev/integrations/pkg/tessera/tesserav1.
	Health tesserav1.Health
}

type lockedReport struct {
	sync.Mutex
	Report
}

// Report adds to what the handler returns; the last call counts. None of it may hold a secret.
func (d *Delivery) Report(report Report) {
	d.report.Lock()
	defer d.report.Unlock()
	d.report.Report = report
}

// Decode reads the payload into v. Its error is [Permanent]: the same bytes will not be read better the next time.
func (d *Delivery) Decode(v any) error {
	if err := json.Unmarshal(d.JSON, v); err != nil {
		return Permanent(fmt.Errorf("the payload cannot be read: %w", err))
	}
	return nil
}

func deliveryOf(leased *tesserav1.Delivery) *Delivery {
	delivery := &Delivery{
		ID:            leased.GetId(),
		Kind:          leased.GetKind(),
		Endpoint:      leased.GetEndpoint(),
		Attempt:       int(leased.GetAttempt()),
		CreatedAt:     leased.GetCreatedAt().AsTime(),
		TransactionID: leased.GetTransactionId(),
		Ticket: Ticket{
			ID: leased.GetTicket().GetId(), Number: leased.GetTicket().GetNumber(), URL: leased.GetTicket().GetUrl(),
		},
		Email:   leased.GetEmail(),
		Webhook: leased.GetWebhook(),
		Depth:   int(leased.GetDepth()),
		lease:   leased.GetLease(),
	}
	if _, ok := leased.GetPayload().(*tesserav1.Delivery_Json); ok {
		delivery.JSON = []byte(leased.GetJson())
	}
	return delivery
}

func (d *Delivery) key() leaseKey { return leaseKey{d.ID, d.lease} }

type leaseKey struct {
	delivery string
	lease    int64
}

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks an error that trying again cannot help: the delivery is given up, and its ticket's history says so. Nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

type retryError struct {
	error
	after time.Duration
}

func (e retryError) Unwrap() error { return e.error }

// RetryAfter marks an error after which the receiver is left alone for so long at least; Tessera grants an hour more than the schedule
// of the kind says. Nil stays nil.
func RetryAfter(after time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return retryError{err, max(after, 0)}
}

// settlement is what a handler's return comes to.
func (d *Delivery) settlement(err error, took time.Duration) *tesserav1.Settlement {
	d.report.Lock()
	report := d.report.Report
	d.report.Unlock()
	s := &tesserav1.Settlement{
		DeliveryId: d.ID,
		Lease:      d.lease,
		Outcome:    tesserav1.Outcome_OUTCOME_DELIVERED,
		StatusCode: int32(report.StatusCode),
		Detail:     "delivered",
		Response:   cut(report.Response, ResponseMax),
		Recipients: report.Recipients,
		Duration:   durationpb.New(took),
		Health:     report.Health,
	}
	if err == nil && s.GetHealth() == tesserav1.Health_HEALTH_UNSPECIFIED {
		s.Health = tesserav1.Health_HEALTH_WORKS
	}
	var retry retryError
	switch {
	case err == nil:
	case errors.As(err, new(permanentError)):
		s.Outcome = tesserav1.Outcome_OUTCOME_PERMANENT
	case errors.As(err, &retry):
		s.Outcome, s.RetryAfter = tesserav1.Outcome_OUTCOME_RETRY, durationpb.New(retry.after)
	default:
		s.Outcome = tesserav1.Outcome_OUTCOME_RETRY
	}
	if err != nil {
		s.Detail = err.Error()
	}
	if report.Detail != "" {
		s.Detail = report.Detail
	}
	s.Detail = sentence(s.GetDetail())
	return s
}

// sentence is one line of at most [DetailMax] characters.
func sentence(text string) string {
	text = strings.TrimSpace(strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " "))
	if runes := []rune(text); len(runes) > DetailMax {
		return string(runes[:DetailMax-1]) + "…"
	}
	return text
}

// cut is the beginning of a text, at most so many bytes, between characters.
func cut(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
