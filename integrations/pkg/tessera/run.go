package tessera

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// leaseMin is the lower limit for the duration of leases; shorter ones from the server are raised to it.
	leaseMin = 10 * time.Millisecond
	// callTimeout is the timeout of a call, in addition to the time that it waits for deliveries.
	callTimeout = 10 * time.Second
	// graceMax is how long a handler may take to return after its timeout.
	graceMax = 5 * time.Second
	// flushMin is how long a stop at least tries to settle finished attempts.
	flushMin = time.Second
	// backoffMin and backoffMax are the first and the longest pause after a failed call; the pauses double.
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
)

// Run delivers deliveries of the connector's kind until ctx ends. Then it stops leasing, waits up to [Config.Drain] for running attempts,
// returns the unfinished deliveries to Tessera, and returns nil. While Tessera cannot be reached, it retries without limit.
//
// It returns an error if it cannot continue: the configuration is invalid, the token was revoked or is not bound to the kind, or every
// slot is occupied by a handler that does not return.
func Run(ctx context.Context, config Config, handle Handler) error {
	config, err := config.filled()
	if err != nil {
		return err
	}
	if config.Kind == "" {
		return errors.New("tessera: Kind is empty; set it to the kind of deliveries that the connector delivers")
	}
	conn, err := config.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	r := &runner{
		Config:  config,
		handle:  handle,
		actions: tesserav1.NewActionsServiceClient(conn),
		scrips:  tesserav1.NewScripsServiceClient(conn),
		metrics: newMetrics(config.Kind),
		freed:   make(chan struct{}, 1),
		relet:   make(chan struct{}, 1),
		ended:   make(chan *tesserav1.Settlement, 2*config.Concurrency),
		running: map[leaseKey]*attempt{},
		leases:  map[leaseKey]*attempt{},
		lease:   leaseDefault,
	}
	stopServing, err := r.serve()
	if err != nil {
		return err
	}
	defer stopServing()
	return r.run(ctx)
}

// runner is a running connector.
type runner struct {
	Config
	handle  Handler
	actions tesserav1.ActionsServiceClient
	scrips  tesserav1.ScripsServiceClient
	metrics *metrics

	// freed is signalled when a handler has returned or has been given up, relet when the duration of leases has changed.
	freed, relet chan struct{}
	// ended is the queue of settlements to send; it is bounded, so that no more deliveries are leased while settling fails.
	ended chan *tesserav1.Settlement

	mu      sync.Mutex
	running map[leaseKey]*attempt
	// leases are those to extend: of running attempts, and of ended ones until they are settled, however long that is retried.
	leases map[leaseKey]*attempt
	// unsettled counts attempts that are not settled, sending the goroutines that write to ended.
	unsettled, sending sync.WaitGroup
	// stopping is set when no more attempts may start, closed when no more may be settled.
	stopping, closed bool
	// lease is the duration of leases.
	lease time.Duration
	// heard is when the server last responded; out is set while it does not.
	heard time.Time
	out   bool
}

// attempt is a running handler.
type attempt struct {
	delivery *Delivery
	begun    time.Time
	cancel   context.CancelCauseFunc
	// settled is set by the first to settle the attempt: the return of the handler, its timeout, or a stop.
	settled bool
	// givenUp is set when the handler did not return within its timeout.
	givenUp bool
	// lost is set when the connector lost the lease.
	lost bool
}

// run runs the connector until ctx ends or an error makes it impossible to continue. Attempts in progress are drained.
func (r *runner) run(ctx context.Context) error {
	work, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	leasing, stopLeasing := context.WithCancel(ctx)
	defer stopLeasing()
	beats, stopBeats := context.WithCancel(work)
	defer stopBeats()
	failed := make(chan error, 3)
	var leaser, beater, settler sync.WaitGroup
	leaser.Go(func() { failed <- r.leaseAll(leasing, work) })
	beater.Go(func() { failed <- r.beat(beats) })
	settler.Go(func() { failed <- r.settleAll(work) })

	var err error
	select {
	case <-ctx.Done():
		r.Logger.Info("stopping: waiting for attempts in progress", "drain", r.Drain)
	case err = <-failed:
	}
	stopLeasing()
	r.drain()
	leaser.Wait()
	stopBeats()
	beater.Wait()
	flush := time.AfterFunc(min(max(r.Drain, flushMin), callTimeout), func() { abort(ErrStopping) })
	defer flush.Stop()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.sending.Wait()
	close(r.ended)
	settler.Wait()
	return err
}

// drain waits for the attempts, cancels those that take too long, and returns the deliveries of those that do not end even then.
func (r *runner) drain() {
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	if r.awaitSettled(r.Drain) {
		return
	}
	for _, attempt := range r.attempts() {
		attempt.cancel(ErrStopping)
	}
	if r.awaitSettled(graceMax) {
		return
	}
	for _, attempt := range r.attempts() {
		r.settle(attempt, returned(attempt.delivery))
	}
}

// awaitSettled waits until every attempt is settled, and reports whether that happened in time.
func (r *runner) awaitSettled(most time.Duration) bool {
	all := make(chan struct{})
	go func() {
		r.unsettled.Wait()
		close(all)
	}()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-all:
		return true
	case <-timer.C:
		return false
	}
}

func (r *runner) attempts() []*attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.running))
}

// begin starts an attempt in a new goroutine; while the connector is stopping, it returns the delivery instead.
func (r *runner) begin(work context.Context, leased *tesserav1.Delivery) {
	delivery := deliveryOf(leased)
	ctx, cancel := context.WithCancelCause(context.WithValue(work, depthKey{}, delivery.Depth))
	a := &attempt{delivery: delivery, begun: time.Now(), cancel: cancel}
	r.mu.Lock()
	stopping := r.stopping
	if !stopping {
		r.running[delivery.key()] = a
		r.leases[delivery.key()] = a
		r.unsettled.Add(1)
		r.metrics.running.Set(float64(len(r.running)))
	}
	r.mu.Unlock()
	if stopping {
		cancel(ErrStopping)
		r.enqueue(returned(delivery))
		return
	}
	go func() {
		defer cancel(nil)
		r.attempt(ctx, a)
	}()
}

func (r *runner) attempt(ctx context.Context, a *attempt) {
	ctx, stop := context.WithTimeout(ctx, r.Timeout)
	defer stop()
	overdue := time.AfterFunc(r.Timeout+min(r.Timeout, graceMax), func() { r.giveUp(a) })
	err := r.call(ctx, a.delivery)
	overdue.Stop()
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("cancelled after %s: %w", r.Timeout, err)
	}
	settlement := a.delivery.settlement(err, time.Since(a.begun))
	if err != nil && errors.Is(context.Cause(ctx), ErrStopping) {
		settlement = returned(a.delivery)
		settlement.Duration = durationpb.New(time.Since(a.begun))
	}
	r.settle(a, settlement)
	r.mu.Lock()
	delete(r.running, a.delivery.key())
	r.metrics.running.Set(float64(len(r.running)))
	r.mu.Unlock()
	ring(r.freed)
}

// giveUp settles an attempt whose handler does not return. Its slot stays occupied, because the handler is still running.
func (r *runner) giveUp(a *attempt) {
	r.mu.Lock()
	a.givenUp = true
	r.mu.Unlock()
	r.Logger.Error("a handler does not return; its delivery will be retried, and its slot stays occupied until it returns",
		"delivery", a.delivery.ID, "timeout", r.Timeout)
	late := fmt.Errorf("the connector's handler did not return within %s", r.Timeout)
	r.settle(a, a.delivery.settlement(late, time.Since(a.begun)))
	ring(r.freed)
}

// call calls the handler and turns a panic into an error.
func (r *runner) call(ctx context.Context, delivery *Delivery) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			r.Logger.Error("a handler panicked", "delivery", delivery.ID, "panic", problem, "stack", string(debug.Stack()))
			err = errors.New("the connector panicked; see its log")
		}
	}()
	return r.handle(ctx, delivery)
}

// settle settles an attempt once. A success is also sent if the attempt was settled before; the server decides whether to accept it.
func (r *runner) settle(a *attempt, settlement *tesserav1.Settlement) {
	r.mu.Lock()
	again := a.settled
	a.settled = true
	r.mu.Unlock()
	if again {
		r.Logger.Warn("a handler returned after its attempt was settled",
			"delivery", a.delivery.ID, "outcome", outcomeOf(settlement), "detail", settlement.GetDetail())
		if settlement.GetOutcome() != tesserav1.Outcome_OUTCOME_DELIVERED {
			return
		}
	} else {
		defer r.unsettled.Done()
		r.metrics.attempt(settlement)
	}
	r.enqueue(settlement)
}

// enqueue queues a settlement, unless the connector has ended.
func (r *runner) enqueue(settlement *tesserav1.Settlement) {
	r.mu.Lock()
	closed := r.closed
	if !closed {
		r.sending.Add(1)
	}
	r.mu.Unlock()
	if closed {
		return
	}
	defer r.sending.Done()
	r.ended <- settlement
}

// ring wakes the receiver of the channel, now or at its next receive.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

func returned(delivery *Delivery) *tesserav1.Settlement {
	return &tesserav1.Settlement{DeliveryId: delivery.ID, Lease: delivery.lease, Outcome: tesserav1.Outcome_OUTCOME_RETURNED}
}
