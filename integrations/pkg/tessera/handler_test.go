package tessera_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	isDelivered = tesserav1.Outcome_OUTCOME_DELIVERED
	isRetry     = tesserav1.Outcome_OUTCOME_RETRY
	isPermanent = tesserav1.Outcome_OUTCOME_PERMANENT
	isReturned  = tesserav1.Outcome_OUTCOME_RETURNED
)

func TestTheErrorOfAHandlerDecidesTheOutcome(t *testing.T) {
	full, wrong := errors.New("the box is full"), errors.New("there is no such box")
	for name, c := range map[string]struct {
		returned error
		outcome  tesserav1.Outcome
		detail   string
		after    time.Duration
	}{
		"nil":                      {nil, isDelivered, "delivered", 0},
		"an error":                 {full, isRetry, "the box is full", 0},
		"permanent":                {tessera.Permanent(wrong), isPermanent, "there is no such box", 0},
		"permanent, wrapped":       {fmt.Errorf("box 7: %w", tessera.Permanent(wrong)), isPermanent, "box 7: there is no such box", 0},
		"permanent, among others":  {errors.Join(full, tessera.Permanent(wrong)), isPermanent, "the box is full there is no such box", 0},
		"retry after":              {tessera.RetryAfter(time.Hour, full), isRetry, "the box is full", time.Hour},
		"retry after, wrapped":     {fmt.Errorf("box 7: %w", tessera.RetryAfter(time.Hour, full)), isRetry, "box 7: the box is full", time.Hour},
		"retry after less than no": {tessera.RetryAfter(-time.Hour, full), isRetry, "the box is full", 0},
		"permanent nothing":        {tessera.Permanent(nil), isDelivered, "delivered", 0},
		"retry after nothing":      {tessera.RetryAfter(time.Hour, nil), isDelivered, "delivered", 0},
	} {
		t.Run(name, func(t *testing.T) {
			server := connectortest.NewServer(t, connectortest.Options{})
			run(t, server, nil, func(context.Context, *tessera.Delivery) error { return c.returned })
			got := server.Settled(t, server.QueueJSON(`{}`), 0)
			health := tesserav1.Health_HEALTH_UNSPECIFIED
			if c.outcome == isDelivered {
				health = tesserav1.Health_HEALTH_WORKS
			}
			if got.GetOutcome() != c.outcome || got.GetDetail() != c.detail || got.GetRetryAfter().AsDuration() != c.after || got.GetHealth() != health {
				t.Errorf("%v is settled as %v", c.returned, got)
			}
		})
	}
	if marked := tessera.RetryAfter(time.Hour, tessera.Permanent(wrong)); !errors.Is(marked, wrong) {
		t.Errorf("%v hides %v", marked, wrong)
	}
}

func TestAReportAddsDetailsToAnError(t *testing.T) {
	server := connectortest.NewServer(t, connectortest.Options{})
	run(t, server, nil, func(_ context.Context, delivery *tessera.Delivery) error {
		delivery.Report(tessera.Report{Detail: "forgotten, for another follows"})
		delivery.Report(tessera.Report{
			StatusCode: 503, Detail: "503\n" + strings.Repeat("ä", 600), Response: strings.Repeat("ö", 4096) + "\xff",
			Recipients: []*tesserav1.RecipientAnswer{{Address: "a@example.org", Outcome: isRetry, Answer: "450 later"}},
			Health:     tesserav1.Health_HEALTH_FAILS,
		})
		return errors.New("overloaded")
	})
	got := server.Settled(t, server.QueueJSON(`{}`), 0)
	if detail := []rune(got.GetDetail()); len(detail) != tessera.DetailMax || !strings.HasPrefix(got.GetDetail(), "503 ä") || detail[len(detail)-1] != '…' {
		t.Errorf("%q", got.GetDetail())
	}
	if response := got.GetResponse(); response != strings.Repeat("ö", tessera.ResponseMax/2) {
		t.Errorf("%d bytes: %q", len(response), response)
	}
	if got.GetOutcome() != isRetry || got.GetStatusCode() != 503 || got.GetHealth() != tesserav1.Health_HEALTH_FAILS ||
		len(got.GetRecipients()) != 1 || got.GetRecipients()[0].GetAnswer() != "450 later" {
		t.Errorf("%v", got)
	}
}

func TestAPanicIsRetriedAndItsStackIsLogged(t *testing.T) {
	server := connectortest.NewServer(t, connectortest.Options{})
	c := run(t, server, nil, func(_ context.Context, delivery *tessera.Delivery) error {
		if delivery.Attempt == 1 {
			panic("out of ink")
		}
		return nil
	})
	id := server.QueueJSON(`{}`)
	got := server.Settled(t, id, 0)
	if log := c.logs.String(); !strings.Contains(log, "out of ink") || !strings.Contains(log, "handler_test.go") || !strings.Contains(log, id) {
		t.Errorf("the log does not help to find the fault:\n%s", log)
	}
	if got.GetOutcome() != isRetry || strings.Contains(got.GetDetail(), "ink") {
		t.Errorf("%v", got)
	}
	server.Advance(connectortest.Schedule)
	if again := server.Settled(t, id, 1); again.GetOutcome() != isDelivered {
		t.Errorf("%v", again)
	}
}

func TestADeliveryHasItsTicketAndPayload(t *testing.T) {
	server, seen := connectortest.NewServer(t, connectortest.Options{}), make(chan *tessera.Delivery, 1)
	run(t, server, nil, func(_ context.Context, delivery *tessera.Delivery) error {
		seen <- delivery
		return nil
	})
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	server.Queue(&tesserav1.Delivery{
		Id: "7d9f", Endpoint: "box", CreatedAt: timestamppb.New(made), TransactionId: "c0de", Depth: 3,
		Ticket:  &tesserav1.TicketKey{Id: "a1", Number: 42, Url: "http://desk.example/42"},
		Payload: &tesserav1.Delivery_Json{Json: `{"text":"hello","more":1}`},
	})
	got := received(t, seen)
	if got.ID != "7d9f" || got.Kind != "test" || got.Endpoint != "box" || got.Attempt != 1 || !got.CreatedAt.Equal(made) ||
		got.TransactionID != "c0de" || got.Depth != 3 || got.Ticket != (tessera.Ticket{ID: "a1", Number: 42, URL: "http://desk.example/42"}) ||
		string(got.JSON) != `{"text":"hello","more":1}` || got.Email != nil || got.Webhook != nil {
		t.Errorf("%+v", got)
	}
	var note struct{ Text string }
	if err := got.Decode(&note); err != nil || note.Text != "hello" {
		t.Errorf("%v %v", note, err)
	}
	server.Queue(&tesserav1.Delivery{Payload: &tesserav1.Delivery_Email{Email: &tesserav1.EmailMessage{Sender: "a@example.org"}}})
	if got := received(t, seen); got.Email.GetSender() != "a@example.org" || got.JSON != nil {
		t.Errorf("%+v", got)
	}
	server.Queue(&tesserav1.Delivery{Payload: &tesserav1.Delivery_Webhook{Webhook: &tesserav1.WebhookRequest{Url: "http://box.example"}}})
	if got := received(t, seen); got.Webhook.GetUrl() != "http://box.example" || got.JSON != nil {
		t.Errorf("%+v", got)
	}
}

func TestAnInvalidPayloadIsGivenUp(t *testing.T) {
	server := connectortest.NewServer(t, connectortest.Options{})
	run(t, server, nil, func(_ context.Context, delivery *tessera.Delivery) error {
		var number int
		return delivery.Decode(&number)
	})
	if got := server.Settled(t, server.QueueJSON(`"seven"`), 0); got.GetOutcome() != isPermanent || !strings.Contains(got.GetDetail(), "is invalid") {
		t.Errorf("%v", got)
	}
}

func TestTheContextOfAHandlerHasTheCauseOfItsEnd(t *testing.T) {
	untilTheEnd := func(causes chan<- error) tessera.Handler {
		return func(ctx context.Context, _ *tessera.Delivery) error {
			causes <- nil
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return ctx.Err()
		}
	}
	t.Run("the lease is lost", func(t *testing.T) {
		server := connectortest.NewServer(t, connectortest.Options{Lease: 60 * time.Millisecond})
		causes := make(chan error, 2)
		run(t, server, nil, untilTheEnd(causes))
		id := server.QueueJSON(`{}`)
		received(t, causes)
		server.Cancel(id)
		if cause := received(t, causes); !errors.Is(cause, tessera.ErrLeaseLost) {
			t.Error(cause)
		}
	})
	t.Run("the connector stops", func(t *testing.T) {
		server := connectortest.NewServer(t, connectortest.Options{})
		causes := make(chan error, 2)
		c := run(t, server, nil, untilTheEnd(causes))
		id := server.QueueJSON(`{}`)
		received(t, causes)
		if err := c.end(t); err != nil {
			t.Error(err)
		}
		if cause := received(t, causes); !errors.Is(cause, tessera.ErrStopping) {
			t.Error(cause)
		}
		if got := server.Settled(t, id, 0); got.GetOutcome() != isReturned {
			t.Errorf("%v", got)
		}
	})
	t.Run("its time is over", func(t *testing.T) {
		server := connectortest.NewServer(t, connectortest.Options{})
		causes := make(chan error, 2)
		run(t, server, func(config *tessera.Config) { config.Timeout = 40 * time.Millisecond }, untilTheEnd(causes))
		id := server.QueueJSON(`{}`)
		received(t, causes)
		if cause := received(t, causes); !errors.Is(cause, context.DeadlineExceeded) {
			t.Error(cause)
		}
		if got := server.Settled(t, id, 0); got.GetOutcome() != isRetry || !strings.Contains(got.GetDetail(), "cancelled after 40ms") {
			t.Errorf("%v", got)
		}
	})
}

func TestAHandlerThatDoesNotReturnIsGivenUpAndItsLateSuccessIsReported(t *testing.T) {
	server, release := connectortest.NewServer(t, connectortest.Options{}), make(chan struct{})
	run(t, server, func(config *tessera.Config) { config.Concurrency, config.Timeout = 2, 40*time.Millisecond },
		func(_ context.Context, delivery *tessera.Delivery) error {
			if string(delivery.JSON) == `"deaf"` {
				<-release
			}
			return nil
		})
	deaf := server.QueueJSON(`"deaf"`)
	if got := server.Settled(t, deaf, 0); got.GetOutcome() != isRetry || !strings.Contains(got.GetDetail(), "did not return within 40ms") {
		t.Errorf("%v", got)
	}
	// The other slot is not affected.
	if got := server.Settled(t, server.QueueJSON(`"quick"`), 0); got.GetOutcome() != isDelivered {
		t.Errorf("%v", got)
	}
	close(release)
	connectortest.Eventually(t, "the success is reported", func() bool { return server.Record(deaf).Leases[0].Told == 2 })
}

func TestAConnectorEndsIfNoHandlerReturns(t *testing.T) {
	server, release := connectortest.NewServer(t, connectortest.Options{}), make(chan struct{})
	defer close(release)
	c := run(t, server, func(config *tessera.Config) { config.Concurrency, config.Timeout = 2, 40*time.Millisecond },
		func(context.Context, *tessera.Delivery) error {
			<-release
			return nil
		})
	server.QueueJSON(`1`)
	server.QueueJSON(`2`)
	if err := c.wait(t); err == nil || !strings.Contains(err.Error(), "restart the connector") {
		t.Error(err)
	}
}
