package connectortest

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// longLease is the duration of a lease that is never extended in a test; it expires when the test advances the clock.
	longLease = time.Hour
	// shortLease is the duration of a lease that is extended several times in a test.
	shortLease = 150 * time.Millisecond
	// shortTimeout is the timeout of an attempt in scenarios about timeouts.
	shortTimeout = 250 * time.Millisecond
	// shortDrain is how long a stop waits for attempts that hang.
	shortDrain = 50 * time.Millisecond
)

// Connector is a connector under test.
type Connector struct {
	// Kind is the kind of deliveries that it delivers.
	Kind string
	// Receiver is the receiver that it delivers to.
	Receiver Receiver
	// Start runs it until ctx ends, as its main function does: it calls [tessera.Run] with this configuration and may add to it. The
	// suite sets Address, Token, Kind, Concurrency, PerEndpoint, Timeout, Drain and Logger.
	Start func(ctx context.Context, config tessera.Config) error
}

// Run runs the conformance suite, which every connector must pass, whatever it delivers.
func Run(t *testing.T, connector Connector) {
	for _, scenario := range []struct {
		name  string
		lease time.Duration
		play  func(t *testing.T, d *desk)
	}{
		{"delivers and settles once", longLease, delivers},
		{"retries or gives up a delivery that the receiver rejects", longLease, refused},
		{"leaves its deliveries to another connector when it is killed", longLease, killed},
		{"settles again when the response was lost", longLease, answersTwice},
		{"settles a success after its lease was lost", longLease, answersLate},
		{"extends the lease of a long attempt", shortLease, keepsLease},
		{"cancels an attempt when its delivery is cancelled", shortLease, calledOff},
		{"retries an attempt that hangs and frees its slot", longLease, hangs},
		{"reconnects to a restarted server and loses nothing", longLease, restarts},
		{"returns a helpful error for an invalid token", longLease, wrongToken},
		{"ends when its token is revoked", longLease, revoked},
		{"continues when a delivery is too large", longLease, oversize},
		{"returns unfinished deliveries when it is stopped", longLease, drains},
		{"does not exceed its concurrency", longLease, bounded},
		{"does not exceed the limit per endpoint", longLease, shares},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			connector.Receiver.Behave(Accepts)
			server := NewServer(t, Options{Kinds: []string{connector.Kind}, Lease: scenario.lease})
			// An attempt that still hangs when a scenario fails must not delay its end.
			t.Cleanup(func() { connector.Receiver.Behave(Accepts) })
			scenario.play(t, &desk{Server: server, connector: connector})
		})
	}
}

// desk is a server with the connector under test.
type desk struct {
	*Server
	connector Connector
}

func (d *desk) behave(behaviour Behaviour) { d.connector.Receiver.Behave(behaviour) }

// queue queues one delivery for each endpoint, and returns their ids.
func (d *desk) queue(endpoints ...string) []string {
	var ids []string
	for _, endpoint := range endpoints {
		delivery := &tesserav1.Delivery{Id: newID(), Endpoint: endpoint}
		d.connector.Receiver.Fill(delivery)
		ids = append(ids, d.Queue(delivery))
	}
	return ids
}

// start starts the connector; it is stopped at the end of the test at the latest.
func (d *desk) start(t *testing.T, edit func(config *tessera.Config)) *started {
	t.Helper()
	config, logs := d.Config(), &logs{}
	config.Drain, config.Logger = shortDrain, slog.New(slog.NewTextHandler(logs, nil))
	if edit != nil {
		edit(&config)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &started{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.err = d.connector.Start(ctx, config)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-s.ended:
		case <-time.After(Patience):
			t.Error("the connector does not stop")
		}
		if t.Failed() {
			t.Logf("the connector's log:\n%s", logs)
		}
	})
	return s
}

// started is a running connector.
type started struct {
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

// stop stops it, and fails the test if it returns an error.
func (s *started) stop(t *testing.T) {
	t.Helper()
	s.cancel()
	if err := s.wait(t); err != nil {
		t.Errorf("a stop must not be an error, but it returned: %v", err)
	}
}

// wait returns what Start returned.
func (s *started) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(Patience):
		t.Fatal("the connector does not stop")
	}
	return s.err
}

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

// arrived waits until each delivery has arrived at least the given number of times.
func (d *desk) arrived(t *testing.T, times int, ids ...string) {
	t.Helper()
	for _, id := range ids {
		Eventually(t, "the delivery arrived", func() bool { return d.connector.Receiver.Arrived(id) >= times })
	}
}

// delivered waits until each delivery is delivered, and checks that it was recorded once.
func (d *desk) delivered(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		Eventually(t, "the delivery is recorded as delivered", func() bool { return d.Record(id).End == tesserav1.Outcome_OUTCOME_DELIVERED })
		if record := d.Record(id); record.Ends != 1 {
			t.Errorf("the delivery has %d ends", record.Ends)
		}
	}
}

// loses drops the responses of the next calls of a method.
func (d *desk) loses(method string, times int) {
	var mu sync.Mutex
	d.Around(func(called string, _ any, call func() error) error {
		err := call()
		mu.Lock()
		defer mu.Unlock()
		if called == method && times > 0 {
			times--
			return status.Error(codes.Unavailable, "the response is lost")
		}
		return err
	})
}
