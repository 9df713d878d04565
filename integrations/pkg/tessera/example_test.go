package tessera_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
)

// schema is what scrips are checked against: a text message has a number and a text.
const schema = `{
	"type": "object",
	"required": ["to", "text"],
	"additionalProperties": false,
	"properties": {"to": {"type": "string", "pattern": "^\\+[0-9]+$"}, "text": {"type": "string", "maxLength": 160}}
}`

// message is the same in Go.
type message struct{ To, Text string }

// gateway stands for whatever sends text messages.
type gateway struct{}

var errBusy = errors.New("the gateway is busy")

func (gateway) send(_ context.Context, _, to, text string) error {
	switch to {
	case "+1":
		return errors.New("nobody has the number +1")
	case "+2":
		return errBusy
	}
	fmt.Printf("%s gets: %s\n", to, text)
	return nil
}

// deliver makes one attempt. What it returns is the decision.
func (g gateway) deliver(ctx context.Context, delivery *tessera.Delivery) error {
	var sms message
	if err := delivery.Decode(&sms); err != nil {
		return err // Decode says that trying again cannot help.
	}
	// The gateway knows the id, so that nobody gets a message twice.
	err := g.send(ctx, delivery.ID, sms.To, sms.Text)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errBusy):
		return tessera.RetryAfter(10*time.Minute, err)
	default:
		return tessera.Permanent(err)
	}
}

// A connector for text messages. Its main function is what runConnector is here; instead of a Tessera that runs somewhere, the example
// has one that lives in tests.
func Example() {
	server, err := connectortest.Listen(connectortest.Options{Kinds: []string{"sms"}})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- runConnector(ctx, server.Config().Address, server.Config().Token) }()

	for _, payload := range []string{`{"to": "+3", "text": "Your printer prints."}`, `{"to": "+1", "text": "?"}`, `{"to": "+2", "text": "?"}`} {
		settlement := server.Await(server.QueueJSON(payload), 0)
		fmt.Printf("%s: %s\n", settlement.GetOutcome(), settlement.GetDetail())
	}
	cancel()
	fmt.Println("stopped:", <-ended)
	// Output:
	// +3 gets: Your printer prints.
	// OUTCOME_DELIVERED: delivered
	// OUTCOME_PERMANENT: nobody has the number +1
	// OUTCOME_RETRY: the gateway is busy
	// stopped: <nil>
}

func runConnector(ctx context.Context, address, token string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	return tessera.Run(ctx, tessera.Config{
		Address:  address,
		Token:    token,
		Kind:     "sms",
		Schema:   schema,
		Software: "sms-connector 1.0",
		Timeout:  30 * time.Second,
		Logger:   slog.New(slog.DiscardHandler),
	}, gateway{}.deliver)
}
