package tessera

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// leaseDefault is the duration of leases until the server has sent it.
	leaseDefault = 30 * time.Second
	// pollWait is how long a call waits for deliveries to become due. It is short because a stop waits for the response: a cancelled
	// call may have leased deliveries, which would then be delayed until their leases expire.
	pollWait = 2 * time.Second
	// answerMax is how long a stop waits for that response.
	answerMax = pollWait + 500*time.Millisecond
	// extendMax is the maximum number of leases that one call extends.
	extendMax = 1000
	// crowdedPause is the maximum time between two calls while an endpoint has reached its limit.
	crowdedPause = 250 * time.Millisecond
)

// leaseAll leases deliveries for free slots until ctx ends, with one call at a time.
//
// A call requests as many deliveries as there are free slots, and waits if none is due. Slots that become free meanwhile are part of the
// next call, which follows as soon as anything is due. The exception is an endpoint that has reached its limit: a waiting call does not
// return deliveries for it, even after an attempt there has ended. So no call waits then, and the next is made when a slot becomes free.
func (r *runner) leaseAll(ctx, work context.Context) error {
	if err := r.announce(ctx); err != nil {
		return err
	}
	pause, single := backoffMin, time.Time{}
	for ctx.Err() == nil {
		request := r.request(time.Now().Before(single))
		if request == nil {
			if err := r.stuck(); err != nil {
				return err
			}
			r.awaitSlot(ctx, callTimeout)
			continue
		}
		deliveries, err := r.ask(ctx, work, request)
		switch {
		case err == nil:
			for _, leased := range deliveries {
				r.begin(work, leased)
			}
			pause = backoffMin
			if len(deliveries) == 0 && request.GetWait().AsDuration() == 0 {
				r.awaitSlot(ctx, crowdedPause)
			}
			continue
		case status.Code(err) == codes.ResourceExhausted:
			r.Logger.Error("a response exceeds the size limit; its deliveries will be leased again one at a time when their leases expire",
				"limit", MessageMax, "error", status.Convert(err).Message())
			single = time.Now().Add(2 * r.leaseLength())
			sleep(ctx, pause)
		default:
			if err := r.wentWrong("lease deliveries", err); err != nil {
				return err
			}
			sleep(ctx, pause)
			// The server may have been replaced by one that does not know this connector.
			if err := r.announce(ctx); err != nil {
				return err
			}
		}
		pause = min(2*pause, backoffMax)
	}
	return nil
}

// awaitSlot waits until a slot becomes free, at most for the given time.
func (r *runner) awaitSlot(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-r.freed:
	case <-timer.C:
	}
}

// request returns a request for the free slots, or only for one of them; nil if no slot is free.
func (r *runner) request(single bool) *tesserav1.LeaseRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	slots := r.Concurrency - len(r.running)
	if slots <= 0 {
		return nil
	}
	if single {
		slots = 1
	}
	busy := map[string]int32{}
	for _, attempt := range r.running {
		busy[attempt.delivery.Endpoint]++
	}
	wait := pollWait
	request := &tesserav1.LeaseRequest{
		Rooms: []*tesserav1.Room{{Kind: r.Kind, Places: int32(slots), PerEndpoint: int32(r.PerEndpoint)}},
	}
	for endpoint, running := range busy {
		request.Busy = append(request.Busy, &tesserav1.Busy{Endpoint: endpoint, Running: running})
		if r.PerEndpoint > 0 && int(running) >= r.PerEndpoint {
			wait = 0
		}
	}
	request.Wait = durationpb.New(wait)
	return request
}

// ask leases deliveries. When ctx ends, it still waits for the response, up to answerMax.
func (r *runner) ask(ctx, work context.Context, request *tesserav1.LeaseRequest) ([]*tesserav1.Delivery, error) {
	call, cancel := context.WithTimeout(work, request.GetWait().AsDuration()+callTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(answerMax, cancel) })()
	response, err := r.actions.Lease(call, request)
	if err != nil {
		return nil, err
	}
	r.answered()
	length := max(response.GetLease().AsDuration(), leaseMin)
	r.mu.Lock()
	changed := r.lease != length
	r.lease = length
	r.mu.Unlock()
	if changed {
		ring(r.relet)
	}
	return response.GetDeliveries(), nil
}

func (r *runner) leaseLength() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lease
}

// stuck returns an error if every slot is occupied by a handler that exceeded its time and does not return.
func (r *runner) stuck() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	given := 0
	for _, attempt := range r.running {
		if attempt.givenUp {
			given++
		}
	}
	if given < r.Concurrency {
		return nil
	}
	return errors.New("tessera: every slot is occupied by a handler that does not return; restart the connector and fix the handler")
}

// beat extends the leases of the running attempts, and of those that have ended but are not settled yet, until ctx ends, three times per
// lease duration.
func (r *runner) beat(ctx context.Context) error {
	for {
		pause := r.leaseLength() / 3
		select {
		case <-ctx.Done():
			return nil
		case <-r.relet:
			continue
		case <-time.After(pause):
		}
		pause = backoffMin
		for err := r.extend(ctx); err != nil && ctx.Err() == nil; err = r.extend(ctx) {
			if err := r.wentWrong("extend leases", err); err != nil {
				return err
			}
			sleep(ctx, pause)
			pause = min(2*pause, backoffMax)
		}
	}
}

// extend extends all leases, and cancels the attempts whose lease is lost.
func (r *runner) extend(ctx context.Context) error {
	held, request := map[leaseKey]*attempt{}, &tesserav1.ExtendRequest{}
	r.mu.Lock()
	for key, attempt := range r.leases {
		if !attempt.lost && len(request.Leases) < extendMax {
			held[key] = attempt
			request.Leases = append(request.Leases, &tesserav1.LeaseKey{DeliveryId: key.delivery, Lease: key.lease})
		}
	}
	r.mu.Unlock()
	if len(held) == 0 {
		return nil
	}
	call, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	response, err := r.actions.Extend(call, request)
	if err != nil {
		return err
	}
	r.answered()
	for _, lost := range response.GetLost() {
		attempt := held[leaseKey{lost.GetDeliveryId(), lost.GetLease()}]
		if attempt == nil {
			continue
		}
		r.mu.Lock()
		attempt.lost = true
		ended := attempt.settled
		r.mu.Unlock()
		if !ended {
			r.Logger.Warn("lost the lease of a delivery", "delivery", lost.GetDeliveryId())
			attempt.cancel(ErrLeaseLost)
		}
	}
	return nil
}
