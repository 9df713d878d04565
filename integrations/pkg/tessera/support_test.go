package tessera_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
)

// logs is a log that is safe for concurrent use.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// connector is a connector that runs in a test.
type connector struct {
	logs logs
	// stop stops it, and ended receives the error that Run returned.
	stop  context.CancelFunc
	ended chan error
}

// end stops it, and returns the error that Run returned.
func (c *connector) end(t *testing.T) error {
	t.Helper()
	c.stop()
	return c.wait(t)
}

func (c *connector) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.ended:
		c.ended <- err
		return err
	case <-time.After(connectortest.Patience):
		t.Fatalf("the connector does not end:\n%s", c.logs.String())
		return nil
	}
}

// run runs a connector until the test ends.
func run(t *testing.T, server *connectortest.Server, edit func(*tessera.Config), handle tessera.Handler) *connector {
	t.Helper()
	c := &connector{ended: make(chan error, 1)}
	config := server.Config()
	config.Drain = 50 * time.Millisecond
	config.Logger = slog.New(slog.NewTextHandler(&c.logs, nil))
	if edit != nil {
		edit(&config)
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	go func() { c.ended <- tessera.Run(ctx, config, handle) }()
	t.Cleanup(func() { _ = c.end(t) })
	return c
}

// delivered is a handler that delivers everything.
func delivered(context.Context, *tessera.Delivery) error { return nil }

// received waits for a value from a channel.
func received[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(connectortest.Patience):
		t.Fatal("timed out waiting for a value")
	}
	var none T
	return none
}
