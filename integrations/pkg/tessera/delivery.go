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

// Limits of the texts of a [Report]; longer texts are truncated.
const (
	// DetailMax is the maximum length of Detail, in characters.
	DetailMax = 500
	// ResponseMax is the maximum size of Response, in bytes.
	ResponseMax = 4096
)

// ErrLeaseLost is the cause of a handler's context that ended because the connector lost the lease: it expired, or an operator cancelled
// the delivery. See [context.Cause].
var ErrLeaseLost = errors.New("the lease of this delivery is lost")

// ErrStopping is the cause of a handler's context that ended because the connector is stopping and the attempt took longer than
// [Config.Drain].
var ErrStopping = errors.New("the connector is stopping")

// Handler makes one attempt at a delivery. Its error decides what happens: nil means delivered; an error is retried on the schedule of
// the kind; [Permanent] gives up; [RetryAfter] sets the earliest time of the next attempt. The text of an error is stored for people to
// read, so it must not contain a secret; the error of a failed request may contain the URL (see [url.Error]).
//
// A handler is called from up to [Config].Concurrency goroutines. It should return soon after ctx ends: nil if the delivery succeeded
// nevertheless, otherwise an error, which leads to a retry. If the connector is stopping, the delivery is returned instead, and the
// attempt does not count. A panic counts as an error.
//
// Delivery is at least once: a handler may get a delivery again if its success was not recorded. The ID is the same at every attempt.
type Handler func(ctx context.Context, delivery *Delivery) error

// Delivery is a delivery that a scrip created.
type Delivery struct {
	// ID is the same at every attempt; a receiver that stores it can ignore duplicates.
	ID string
	// Kind is the kind of the connector.
	Kind string
	// Endpoint is the destination as far as Tessera knows it: the kind, unless the delivery is an email or a webhook.
	Endpoint string
	// Attempt is the number of this attempt, from 1.
	Attempt int
	// CreatedAt is when the scrip created the delivery.
	CreatedAt time.Time
	// Ticket is the ticket whose change caused the delivery.
	Ticket Ticket
	// TransactionID is the id of the transaction, an entry in the ticket's history, that caused the delivery.
	TransactionID string
	// Depth is the number of deliveries, each caused by the one before, that led to this one. A [Client] that is called with the
	// handler's context sends it to Tessera.
	Depth int
	// JSON is the payload of every kind except email and webhook: it matches the kind's schema and is the same at every attempt.
	JSON []byte
	// Email is the payload for the kind email.
	Email *tesserav1.EmailMessage
	// Webhook is the payload for the kind webhook.
	Webhook *tesserav1.WebhookRequest

	lease  int64
	report lockedReport
}

// Ticket identifies a ticket.
type Ticket struct {
	// ID is a UUID.
	ID string
	// Number is the number that people use.
	Number int64
	// URL is the address of its page.
	URL string
}

// Report contains details about an attempt that an error cannot express.
type Report struct {
	// StatusCode is the receiver's HTTP or SMTP status code; 0 if none was received.
	StatusCode int
	// Detail is one sentence for people to read. Default: the text of the error, or "delivered".
	Detail string
	// Response is the beginning of the receiver's response.
	Response string
	// Recipients are the mail server's replies for each recipient that was tried.
	Recipients []*tesserav1.RecipientAnswer
	// Health is the health of the endpoint, whatever the outcome for the message. Default: works if the handler returns nil, otherwise
	// unknown. After 10 failures in a row only one delivery at a time is tried. So use tesserav1.Health_HEALTH_FAILS for an endpoint
	// that cannot be reached, and tesserav1.Health_HEALTH_WORKS for one that rejected the message; import
	// tessera.dev/integrations/pkg/tessera/tesserav1.
	Health tesserav1.Health
}

type lockedReport struct {
	sync.Mutex
	Report
}

// Report adds details to the result of the attempt; each call replaces the previous report. It must not contain a secret.
func (d *Delivery) Report(report Report) {
	d.report.Lock()
	defer d.report.Unlock()
	d.report.Report = report
}

// Decode decodes the JSON payload into v. Its error is [Permanent], because the payload is the same at every attempt.
func (d *Delivery) Decode(v any) error {
	if err := json.Unmarshal(d.JSON, v); err != nil {
		return Permanent(fmt.Errorf("the payload is invalid: %w", err))
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

// Permanent marks an error that a retry cannot fix: the delivery is given up, which the ticket's history records. It returns nil for nil.
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

// RetryAfter marks an error after which the next attempt is made no earlier than after the given time; Tessera grants at most one hour
// more than the schedule of the kind. It returns nil for nil.
func RetryAfter(after time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return retryError{err, max(after, 0)}
}

// settlement returns the settlement for the error of a handler.
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

// sentence returns text as one line of at most [DetailMax] characters.
func sentence(text string) string {
	text = strings.TrimSpace(strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " "))
	if runes := []rune(text); len(runes) > DetailMax {
		return string(runes[:DetailMax-1]) + "…"
	}
	return text
}

// cut truncates text to at most the given number of bytes, at the end of a character.
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
