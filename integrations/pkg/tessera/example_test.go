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

// schema is the JSON Schema of the payload, against which scrips are validated: a text message has a number and a text.
const schema = `{
	"type": "object",
	"required": ["to", "text"],
	"additionalProperties": false,
	"properties": {"to": {"type": "string", "pattern": "^\\+[0-9]+$"}, "text": {"type": "string", "maxLength": 160}}
}`

// message is the payload in Go.
type message struct{ To, Text string }

// gateway stands in for a service that sends text messages.
type gateway struct{}

var errBusy = errors.New("the gateway is busy")

func (gateway) send(_ context.Context, _, to, text string) error {
	switch to {
	case "+1":
		return errors.New("unknown number +1")
	case "+2":
		return errBusy
	}
	fmt.Printf("to %s: %s\n", to, text)
	return nil
}

// deliver makes one attempt. Its error decides what happens to the delivery.
func (g gateway) deliver(ctx context.Context, delivery *tessera.Delivery) error {
	var sms message
	if err := delivery.Decode(&sms); err != nil {
		return err // Decode returns a permanent error.
	}
	// The gateway gets the id and ignores duplicates.
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

// A connector for text messages. The function runConnector is its main function; the example runs it against a Tessera server for tests.
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
	// to +3: Your printer prints.
	// OUTCOME_DELIVERED: delivered
	// OUTCOME_PERMANENT: unknown number +1
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
