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

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// leaseLength is how long leases hold until the server has said it.
	leaseLength = 30 * time.Second
	// pollWait is how long the server lets a lease wait for something that is due; crowdedWait is how long while an endpoint has its
	// share, of which that call will hear nothing.
	pollWait    = 20 * time.Second
	crowdedWait = time.Second
	// callTimeout is how long any other call may take, and how much longer than pollWait a lease may.
	callTimeout = 10 * time.Second
	// graceTime is how long after its timeout a handler may take to return.
	graceTime = 5 * time.Second
	// backoffMin and backoffMax are the first and the longest pause after a call that failed; each is twice the one before.
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
)

// Run delivers what scrips make of the connector's kind, until ctx ends: then it leases no more, waits for attempts for [Config.Drain],
// gives the others back, and returns nil. While Tessera cannot be reached it tries again, for as long as that takes.
//
// It returns an error when it cannot go on: the configuration is wrong, the token was revoked or is not bound to the kind, or every
// place is held by a handler that does not return.
func Run(ctx context.Context, config Config, handle Handler) error {
	config, err := config.filled()
	if err != nil {
		return err
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
		running: map[leaseKey]*attempt{},
		lease:   leaseLength,
		changed: make(chan struct{}, 1),
		ended:   make(chan *tesserav1.Settlement, 2*config.Concurrency),
	}
	stopServing, err := r.serve()
	if err != nil {
		return err
	}
	defer stopServing()
	return r.run(ctx)
}

// runner is a connector at work.
type runner struct {
	Config
	handle  Handler
	actions tesserav1.ActionsServiceClient
	scrips  tesserav1.ScripsServiceClient
	metrics *metrics

	// changed is rung when a handler returned, or was given up.
	changed chan struct{}
	// ended holds what is to be settled; sending counts those who are putting something into it.
	ended   chan *tesserav1.Settlement
	sending sync.WaitGroup

	mu      sync.Mutex
	running map[leaseKey]*attempt
	// reserved is how many places the calls under way may fill.
	reserved int
	// waits is how busy endpoints were when the call that waits was made; nil when none waits.
	waits map[string]int
	// freed is set when an attempt ended at an endpoint that had its share then.
	freed bool
	// lease is how long leases hold.
	lease time.Duration
	// heard is when the server last answered; out is set while it does not.
	heard time.Time
	out   bool
}

// attempt is a handler at work.
type attempt struct {
	delivery *Delivery
	begun    time.Time
	cancel   context.CancelCauseFunc
	// settled is set by whoever settles first: the handler's return, or the end of its time.
	settled bool
	// lost is set when the lease is not this connector's any more.
	lost bool
}

func (r *runner) run(ctx context.Context) error {
	// What has begun outlives ctx, until it is drained.
	work, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	leasing, stopLeasing := context.WithCancel(ctx)
	defer stopLeasing()
	failed := make(chan error, 3)
	var leaser, settler sync.WaitGroup
	settler.Go(func() { failed <- r.settleAll(work) })
	leaser.Go(func() { failed <- r.leaseAll(leasing, work) })
	beats, stopBeats := context.WithCancel(work)
	defer stopBeats()
	go func() { failed <- r.beat(beats) }()

	var err error
	select {
	case <-ctx.Done():
		r.Logger.Info("stopping: attempts under way are finished first", "drain", r.Drain)
	case err = <-failed:
	}
	stopLeasing()
	leaser.Wait()
	r.drain()
	stopBeats()
	go func() {
		r.sending.Wait()
		close(r.ended)
	}()
	lastCall := time.AfterFunc(callTimeout, func() { abort(ErrStopping) })
	settler.Wait()
	lastCall.Stop()
	return err
}

// drain waits for the handlers, cuts off those that take too long, and gives back what they had.
func (r *runner) drain() {
	if r.waitIdle(r.Drain) {
		return
	}
	for _, attempt := range r.attempts() {
		attempt.cancel(ErrStopping)
	}
	if r.waitIdle(graceTime) {
		return
	}
	for _, attempt := range r.attempts() {
		r.settle(attempt, returned(attempt.delivery))
	}
}

// waitIdle waits until no handler is at work; it says whether that came in time.
func (r *runner) waitIdle(most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for len(r.attempts()) > 0 {
		select {
		case <-r.changed:
		case <-timer.C:
			return false
		}
	}
	return true
}

func (r *runner) attempts() []*attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.running))
}

// begin makes an attempt in a goroutine of its own.
func (r *runner) begin(work context.Context, leased *tesserav1.Delivery) {
	delivery := deliveryOf(leased)
	ctx, cancel := context.WithCancelCause(context.WithValue(work, depthKey{}, delivery.depth))
	a := &attempt{delivery: delivery, begun: time.Now(), cancel: cancel}
	r.mu.Lock()
	r.running[delivery.key()] = a
	r.metrics.running.Set(float64(len(r.running)))
	r.mu.Unlock()
	go func() {
		defer cancel(nil)
		r.attempt(ctx, a)
	}()
}

func (r *runner) attempt(ctx context.Context, a *attempt) {
	ctx, stop := context.WithTimeout(ctx, r.Timeout)
	defer stop()
	overdue := time.AfterFunc(r.Timeout+graceTime, func() {
		late := fmt.Errorf("the handler did not return within %s", r.Timeout)
		r.Logger.Error("a handler does not return; its delivery is tried again, its place is lost until it does",
			"delivery", a.delivery.ID, "timeout", r.Timeout)
		r.settle(a, a.delivery.settlement(late, time.Since(a.begun)))
		r.ring()
	})
	err := r.call(ctx, a.delivery)
	overdue.Stop()
	settlement := a.delivery.settlement(err, time.Since(a.begun))
	if err != nil && errors.Is(context.Cause(ctx), ErrStopping) {
		settlement = returned(a.delivery)
	}
	if !r.settle(a, settlement) {
		r.Logger.Warn("a handler returned after its delivery was given up", "delivery", a.delivery.ID, "error", err)
	}
	r.mu.Lock()
	delete(r.running, a.delivery.key())
	r.freed = r.freed || r.waits[a.delivery.Endpoint] >= r.PerEndpoint
	r.metrics.running.Set(float64(len(r.running)))
	r.mu.Unlock()
	r.ring()
}

// call calls the handler; a panic in it is an error.
func (r *runner) call(ctx context.Context, delivery *Delivery) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			r.Logger.Error("a handler panicked", "delivery", delivery.ID, "panic", problem, "stack", string(debug.Stack()))
			err = errors.New("the connector broke; its log says more")
		}
	}()
	return r.handle(ctx, delivery)
}

// settle puts what an attempt came to into the queue, unless that was done before; it says whether it did.
func (r *runner) settle(a *attempt, settlement *tesserav1.Settlement) bool {
	r.mu.Lock()
	if a.settled {
		r.mu.Unlock()
		return false
	}
	a.settled = true
	r.sending.Add(1)
	r.mu.Unlock()
	defer r.sending.Done()
	r.metrics.attempt(settlement)
	r.ended <- settlement
	return true
}

func (r *runner) ring() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func returned(delivery *Delivery) *tesserav1.Settlement {
	return &tesserav1.Settlement{DeliveryId: delivery.ID, Lease: delivery.lease, Outcome: tesserav1.Outcome_OUTCOME_RETURNED}
}
