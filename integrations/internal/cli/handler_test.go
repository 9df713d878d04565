package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// play runs a connector for one delivery, and returns the settlement. The function send may call end to stop the connector
// while it sends.
func play(t *testing.T, send func(ctx context.Context, end func()) attempt.Attempt) *tesserav1.Settlement {
	t.Helper()
	server := connectortest.NewServer(t, connectortest.Options{Kinds: []string{"probe"}})
	id := server.QueueJSON("{}")
	ctx, end := context.WithCancel(t.Context())
	connector := probe()
	connector.Timeout, connector.Drain = connectortest.Patience, 10*time.Millisecond
	connector.Open = func() (Transport, error) {
		return Transport{
			Send:  func(ctx context.Context, _ *tessera.Delivery) attempt.Attempt { return send(ctx, end) },
			Close: func() {},
		}, nil
	}
	token := server.Config().Token
	env := map[string]string{"TESSERA_ADDRESS": server.Config().Address, "TESSERA_TOKEN": token}
	var stdout, stderr strings.Builder
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, connector, nil, func(name string) string { return env[name] }, &stdout, &stderr)
	}()
	settlement := server.Settled(t, id, 0)
	end()
	if code := <-ended; code != 0 || strings.Contains(stderr.String(), token) {
		t.Errorf("%d %s", code, stderr.String())
	}
	if announced := server.Announced()[0]; announced.GetKind() != "probe" || announced.GetSoftware() != "probe-connector/"+Version {
		t.Error(announced)
	}
	return settlement
}

func TestTheResultOfAnAttemptIsSettledUnchanged(t *testing.T) {
	recipients := []*tesserav1.RecipientAnswer{{Address: "a@example.org", Outcome: attempt.Retry, Answer: "450 later"}}
	for _, made := range []attempt.Attempt{
		{Outcome: attempt.Delivered, StatusCode: 202, Detail: "202 Accepted", Response: "thanks", Health: attempt.Works},
		{Outcome: attempt.Retry, StatusCode: 450, Detail: "450 later", Recipients: recipients, Health: attempt.Works},
		{Outcome: attempt.Retry, StatusCode: 429, Detail: "429 Too Many Requests", Health: attempt.Fails, Wait: time.Minute},
		{Outcome: attempt.Retry, Detail: "10.0.0.1 is a private address"},
		{Outcome: attempt.Permanent, StatusCode: 410, Detail: "410 Gone", Health: attempt.Works},
		{Outcome: attempt.Permanent, Detail: "the mail has no recipient"},
	} {
		got := play(t, func(context.Context, func()) attempt.Attempt { return made })
		if got.GetOutcome() != made.Outcome || int(got.GetStatusCode()) != made.StatusCode ||
			got.GetDetail() != made.Detail || got.GetResponse() != made.Response || got.GetHealth() != made.Health ||
			got.GetRetryAfter().AsDuration() != made.Wait || len(got.GetRecipients()) != len(made.Recipients) {
			t.Errorf("%+v is settled as %v", made, got)
		}
	}
}

func TestACancelledAttemptIsReturnedUnlessARecipientHasAFinalReply(t *testing.T) {
	answer := func(outcome tesserav1.Outcome) []*tesserav1.RecipientAnswer {
		return []*tesserav1.RecipientAnswer{{Address: "a@example.org", Outcome: attempt.Retry}, {Address: "b@example.org", Outcome: outcome}}
	}
	for name, c := range map[string]struct {
		made       attempt.Attempt
		isReturned bool
	}{
		"broken off":          {attempt.New(attempt.Retry, "no answer"), true},
		"all put off":         {attempt.Attempt{Outcome: attempt.Retry, Recipients: answer(attempt.Retry)}, true},
		"one has it":          {attempt.Attempt{Outcome: attempt.Retry, Recipients: answer(attempt.Delivered)}, false},
		"one never gets it":   {attempt.Attempt{Outcome: attempt.Retry, Recipients: answer(attempt.Permanent)}, false},
		"delivered after all": {attempt.New(attempt.Delivered, "200 OK"), false},
	} {
		got := play(t, func(ctx context.Context, end func()) attempt.Attempt {
			end()
			<-ctx.Done()
			return c.made
		})
		if isReturned := got.GetOutcome() == tesserav1.Outcome_OUTCOME_RETURNED; isReturned != c.isReturned {
			t.Errorf("%s: %v", name, got)
		}
		if !c.isReturned && len(got.GetRecipients()) != len(c.made.Recipients) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
