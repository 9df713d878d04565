package tessera_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

func TestDeliveriesLeasedDuringAStopAreReturned(t *testing.T) {
	server := connectortest.NewServer(t, connectortest.Options{})
	leased, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	server.Around(func(method string, _ any, call func() error) error {
		err := call()
		if method == "Lease" {
			once.Do(func() {
				close(leased)
				<-answer
			})
		}
		return err
	})
	id := server.QueueJSON(`{}`)
	c := run(t, server, nil, func(context.Context, *tessera.Delivery) error {
		t.Error("an attempt started during a stop")
		return nil
	})
	received(t, leased)
	c.stop()
	connectortest.Eventually(t, "the stop has begun", func() bool { return strings.Contains(c.logs.String(), "stopping") })
	close(answer)
	if err := c.wait(t); err != nil {
		t.Error(err)
	}
	record := server.Record(id)
	if len(record.Leases) != 1 || record.Leases[0].Settlement.GetOutcome() != isReturned || record.Attempts != 0 {
		t.Errorf("%+v", record)
	}
}

// crowd is a handler that returns only when size calls are running at once.
type crowd struct {
	size int

	mu      sync.Mutex
	present int
	full    chan struct{}
}

func (c *crowd) handle(ctx context.Context, _ *tessera.Delivery) error {
	c.mu.Lock()
	if c.full == nil {
		c.full = make(chan struct{})
	}
	full := c.full
	if c.present++; c.present == c.size {
		close(full)
		c.present, c.full = 0, nil
	}
	c.mu.Unlock()
	select {
	case <-full:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestABurstKeepsEverySlotBusy(t *testing.T) {
	const places, rounds = 20, 5
	for name, perEndpoint := range map[string]int{"without a share": 0, "with a share for each endpoint": 5} {
		t.Run(name, func(t *testing.T) {
			server, handler := connectortest.NewServer(t, connectortest.Options{}), &crowd{size: places}
			run(t, server, func(config *tessera.Config) { config.Concurrency, config.PerEndpoint = places, perEndpoint }, handler.handle)
			// The first becomes due while a call waits, the others while attempts are running.
			for n := range places * rounds {
				server.Queue(&tesserav1.Delivery{Endpoint: fmt.Sprint(n % 4), Payload: &tesserav1.Delivery_Json{Json: `{}`}})
			}
			connectortest.Eventually(t, "all are settled, which needs every slot in every round", func() bool { return server.Ends() == places*rounds })
		})
	}
}

func TestConnectorsOfOneKindShareTheWorkAndASlowOneLeasesOnlyWhatItHasSlotsFor(t *testing.T) {
	const slowPlaces, deliveries = 2, 60
	server, release := connectortest.NewServer(t, connectortest.Options{}), make(chan struct{})
	var slow atomic.Int32
	run(t, server, func(config *tessera.Config) { config.Concurrency = slowPlaces }, func(context.Context, *tessera.Delivery) error {
		slow.Add(1)
		<-release
		return nil
	})
	for range deliveries {
		server.QueueJSON(`{}`)
	}
	connectortest.Eventually(t, "the slow one is busy", func() bool { return slow.Load() == slowPlaces })
	run(t, server, nil, delivered)
	connectortest.Eventually(t, "the fast one made all the others", func() bool { return server.Ends() == deliveries-slowPlaces })
	close(release)
	connectortest.Eventually(t, "the slow one made its own", func() bool { return server.Ends() == deliveries })
}

func TestAnEndpointAtItsLimitIsRequestedAgainAsSoonAsAnAttemptEnds(t *testing.T) {
	server := connectortest.NewServer(t, connectortest.Options{})
	run(t, server, func(config *tessera.Config) { config.PerEndpoint = 1 }, delivered)
	for range 50 {
		server.QueueJSON(`{}`)
	}
	connectortest.Eventually(t, "all are delivered, one by one", func() bool { return server.Ends() == 50 })
	for _, request := range server.Asked() {
		if request.GetWait().AsDuration() > 0 && len(request.GetBusy()) > 0 {
			t.Errorf("this call waited although an endpoint had reached its limit: %v", request)
		}
	}
}

func TestAnEndpointAtItsLimitDoesNotCauseABusyLoop(t *testing.T) {
	server, release := connectortest.NewServer(t, connectortest.Options{}), make(chan struct{})
	run(t, server, func(config *tessera.Config) { config.PerEndpoint = 1 }, func(context.Context, *tessera.Delivery) error {
		<-release
		return nil
	})
	id := server.QueueJSON(`{}`)
	connectortest.Eventually(t, "it is leased", func() bool { return server.Record(id).Leased })
	begun, before := time.Now(), len(server.Asked())
	connectortest.Eventually(t, "the server was asked again", func() bool { return len(server.Asked()) >= before+6 })
	// This is a minimum, so a slow machine cannot fail it.
	if took := time.Since(begun); took < time.Second {
		t.Errorf("six calls within %s", took)
	}
	close(release)
}

func TestSettlementsAreBatchedUpToTheLimitOfTheServer(t *testing.T) {
	const places, most = 100, 100
	server := connectortest.NewServer(t, connectortest.Options{})
	first, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var largest atomic.Int32
	server.Around(func(_ string, request any, call func() error) error {
		if settle, ok := request.(*tesserav1.SettleRequest); ok {
			once.Do(func() { close(first); <-goOn })
			largest.Store(max(largest.Load(), int32(len(settle.GetSettlements()))))
		}
		return call()
	})
	var made atomic.Int32
	c := run(t, server, func(config *tessera.Config) { config.Concurrency = places }, func(context.Context, *tessera.Delivery) error {
		made.Add(1)
		return nil
	})
	server.QueueJSON(`{}`)
	received(t, first)
	for range 2 * most {
		server.QueueJSON(`{}`)
	}
	connectortest.Eventually(t, "the others have ended while the first is being settled", func() bool { return made.Load() == 2*most+1 })
	close(goOn)
	connectortest.Eventually(t, "all are settled", func() bool { return server.Ends() == 2*most+1 })
	if largest.Load() != most {
		t.Errorf("up to %d were settled by one call", largest.Load())
	}
	if log := c.logs.String(); log != "" {
		t.Errorf("\n%s", log)
	}
}

func TestARejectedSettlementDoesNotBlockTheOthers(t *testing.T) {
	const places = 10
	server, handler := connectortest.NewServer(t, connectortest.Options{}), &crowd{size: places}
	bad := server.QueueJSON(`{}`)
	server.Around(func(method string, request any, call func() error) error {
		if settle, ok := request.(*tesserav1.SettleRequest); ok && method == "Settle" {
			for _, one := range settle.GetSettlements() {
				if one.GetDeliveryId() == bad {
					return status.Error(codes.InvalidArgument, "it cannot be read")
				}
			}
		}
		return call()
	})
	c := run(t, server, func(config *tessera.Config) { config.Concurrency = places }, handler.handle)
	for range places - 1 {
		server.QueueJSON(`{}`)
	}
	connectortest.Eventually(t, "the others are settled", func() bool { return server.Ends() == places-1 })
	connectortest.Eventually(t, "the rejected one is logged", func() bool {
		return strings.Contains(c.logs.String(), bad) && strings.Contains(c.logs.String(), "it cannot be read")
	})
}

func TestTheStartAndTheEndOfAnOutageAreLoggedOnce(t *testing.T) {
	server := connectortest.NewServer(t, connectortest.Options{})
	var failures atomic.Int32
	server.Around(func(_ string, _ any, call func() error) error {
		if failures.Add(1) <= 4 {
			return status.Error(codes.Unavailable, "the database is away")
		}
		return call()
	})
	c := run(t, server, nil, delivered)
	server.Settled(t, server.QueueJSON(`{}`), 0)
	log := c.logs.String()
	if strings.Count(log, "the database is away") != 1 || strings.Count(log, "responds again") != 1 {
		t.Errorf("\n%s", log)
	}
}

func TestLeasingStopsWhileSettlingFails(t *testing.T) {
	const places = 2
	server := connectortest.NewServer(t, connectortest.Options{})
	var away atomic.Bool
	away.Store(true)
	server.Around(func(method string, _ any, call func() error) error {
		if method == "Settle" && away.Load() {
			return status.Error(codes.Unavailable, "the database is away")
		}
		return call()
	})
	var made atomic.Int32
	run(t, server, func(config *tessera.Config) { config.Concurrency = places }, func(context.Context, *tessera.Delivery) error {
		made.Add(1)
		return nil
	})
	for range 500 {
		server.QueueJSON(`{}`)
	}
	// A batch, the queue behind it, and the slots.
	const most = 100 + 3*places
	connectortest.Eventually(t, "it tries to settle again and again", func() bool { return server.Calls("Settle") >= 4 })
	if made := made.Load(); made > most {
		t.Errorf("%d attempts were made while none could be settled", made)
	}
	away.Store(false)
	connectortest.Eventually(t, "all are settled", func() bool { return server.Ends() == 500 })
}

func TestRunReportsWhatTheServerRejects(t *testing.T) {
	for want, edit := range map[string]func(*tessera.Config){
		"`tessera connector add NAME --kind other`": func(config *tessera.Config) { config.Kind = "other" },
		"check Kind, Schema and Software":           func(config *tessera.Config) { config.Software = strings.Repeat("x", 101) },
		"Kind is empty":                             func(config *tessera.Config) { config.Kind = "" },
	} {
		server := connectortest.NewServer(t, connectortest.Options{})
		if err := run(t, server, edit, delivered).wait(t); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestAStopBeforeTheServerRespondsIsNotAnError(t *testing.T) {
	server := connectortest.NewServer(t, connectortest.Options{})
	server.Stop()
	c := run(t, server, nil, delivered)
	connectortest.Eventually(t, "it logs that the server cannot be reached", func() bool { return strings.Contains(c.logs.String(), "retrying") })
	if err := c.end(t); err != nil {
		t.Error(err)
	}
}

func TestAConnectorMayStartBeforeTheServer(t *testing.T) {
	server := connectortest.NewServer(t, connectortest.Options{})
	server.Stop()
	c := run(t, server, nil, delivered)
	connectortest.Eventually(t, "it logs that the server cannot be reached", func() bool { return strings.Contains(c.logs.String(), "retrying") })
	id := server.QueueJSON(`{}`)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if got := server.Settled(t, id, 0); got.GetOutcome() != isDelivered {
		t.Errorf("%v", got)
	}
}

func TestTheLeaseOfAnEndedAttemptIsExtendedUntilItIsSettled(t *testing.T) {
	server := connectortest.NewServer(t, connectortest.Options{Lease: time.Second})
	var away atomic.Bool
	away.Store(true)
	var made, extended atomic.Int32
	server.Around(func(method string, request any, call func() error) error {
		if method == "Settle" && away.Load() {
			return status.Error(codes.Unavailable, "the database is away")
		}
		if extend, ok := request.(*tesserav1.ExtendRequest); ok && made.Load() > 0 {
			extended.Add(int32(len(extend.GetLeases())))
		}
		return call()
	})
	run(t, server, nil, func(context.Context, *tessera.Delivery) error {
		made.Add(1)
		return nil
	})
	id := server.QueueJSON(`{}`)
	connectortest.Eventually(t, "its lease is extended for longer than it lasts", func() bool { return extended.Load() >= 6 })
	away.Store(false)
	if server.Settled(t, id, 0); made.Load() != 1 {
		t.Errorf("it was delivered %d times", made.Load())
	}
}
