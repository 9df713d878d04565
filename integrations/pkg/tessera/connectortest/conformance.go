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
	// longLease is a lease that no test lives to see extended; it runs out when the clock is told to go on.
	longLease = time.Hour
	// shortLease is one that is extended all the time.
	shortLease = 150 * time.Millisecond
	// shortTimeout is how long an attempt may take where that is the point.
	shortTimeout = 250 * time.Millisecond
	// shortDrain is how long a stop waits for attempts that hang.
	shortDrain = 50 * time.Millisecond
)

// Connector is a connector under test.
type Connector struct {
	// Kind is what it delivers.
	Kind string
	// Receiver is what it delivers to.
	Receiver Receiver
	// Start runs it until ctx ends, as its main function does: it calls [tessera.Run] with this configuration, to which it adds what is
	// its own. Address, Token, Kind, Concurrency, PerEndpoint, Timeout, Drain and Logger are the suite's.
	Start func(ctx context.Context, config tessera.Config) error
}

// Run is the conformance suite: what every connector does, whatever it delivers.
func Run(t *testing.T, connector Connector) {
	for _, scenario := range []struct {
		name  string
		lease time.Duration
		play  func(t *testing.T, d *desk)
	}{
		{"delivers, and settles once", longLease, delivers},
		{"what is refused is tried again or given up", longLease, refused},
		{"killed with a lease, leaves the delivery to another", longLease, killed},
		{"settles again when the answer was lost", longLease, answersTwice},
		{"settles a success after its lease was lost", longLease, answersLate},
		{"keeps the lease of a long attempt", shortLease, keepsLease},
		{"calls an attempt off when its delivery was cancelled", shortLease, calledOff},
		{"an attempt that hangs is tried again and its place is free", longLease, hangs},
		{"finds a server that was started again and loses nothing", longLease, restarts},
		{"says what to do about a wrong token", longLease, wrongToken},
		{"ends when its token is revoked", longLease, revoked},
		{"goes on beside a delivery that is too large", longLease, oversize},
		{"gives back what it has when it is stopped", longLease, drains},
		{"makes no more attempts at a time than it may", longLease, bounded},
		{"gives no endpoint more than its share", longLease, shares},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			connector.Receiver.Behave(Accepts)
			server := NewServer(t, Options{Kinds: []string{connector.Kind}, Lease: scenario.lease})
			// Whatever still hangs when a scenario fails must not hold up its end.
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

// queue makes deliveries due to the endpoints, and returns their ids.
func (d *desk) queue(endpoints ...string) []string {
	var ids []string
	for _, endpoint := range endpoints {
		delivery := &tesserav1.Delivery{Id: newID(), Endpoint: endpoint}
		d.connector.Receiver.Fill(delivery)
		ids = append(ids, d.Queue(delivery))
	}
	return ids
}

// start runs the connector; it is stopped at the end of the test at the latest.
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

// started is a connector that was started.
type started struct {
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

// stop asks it to end, and fails the test unless it ends in order.
func (s *started) stop(t *testing.T) {
	t.Helper()
	s.cancel()
	if err := s.wait(t); err != nil {
		t.Errorf("a stop is no error, but: %v", err)
	}
}

// wait returns what Start returned.
func (s *started) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(Patience):
		t.Fatal("the connector does not end")
	}
	return s.err
}

// logs is a log that may be written while it is read.
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

// arrived waits until each delivery has arrived at least so often.
func (d *desk) arrived(t *testing.T, times int, ids ...string) {
	t.Helper()
	for _, id := range ids {
		Eventually(t, "the delivery arrived", func() bool { return d.connector.Receiver.Arrived(id) >= times })
	}
}

// delivered waits until each delivery is delivered, and checks that this is recorded once.
func (d *desk) delivered(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		Eventually(t, "the delivery is recorded as delivered", func() bool { return d.Record(id).End == tesserav1.Outcome_OUTCOME_DELIVERED })
		if record := d.Record(id); record.Ends != 1 {
			t.Errorf("the delivery has %d ends", record.Ends)
		}
	}
}

// loses has the answer of the next calls of a method lost.
func (d *desk) loses(method string, times int) {
	var mu sync.Mutex
	d.Around(func(called string, _ any, call func() error) error {
		err := call()
		mu.Lock()
		defer mu.Unlock()
		if called == method && times > 0 {
			times--
			return status.Error(codes.Unavailable, "the answer is lost")
		}
		return err
	})
}
