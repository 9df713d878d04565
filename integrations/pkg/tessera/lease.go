package tessera

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// answer is what a call to Lease came to.
type answer struct {
	waits bool
	err   error
}

// leaseAll keeps the places filled until ctx ends.
//
// One call waits for what becomes due, with the places that were free when it was made. An endpoint that had its share then is none of
// that call's business: when an attempt ends there, a second call asks, without waiting, for the places that became free since.
func (r *runner) leaseAll(ctx, work context.Context) error {
	if err := r.announce(ctx); err != nil {
		return err
	}
	answers, calls := make(chan answer, 2), map[bool]bool{}
	defer func() {
		for ; len(calls) > 0; delete(calls, (<-answers).waits) {
		}
	}()
	pause := backoffMin
	for {
		for _, waits := range []bool{true, false} {
			if calls[waits] {
				continue
			}
			if request := r.reserve(waits); request != nil {
				calls[waits] = true
				go func() { answers <- answer{waits, r.ask(ctx, work, waits, request)} }()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
			if err := r.stuck(); err != nil {
				return err
			}
		case one := <-answers:
			delete(calls, one.waits)
			if one.err == nil {
				pause = backoffMin
				continue
			}
			if err := r.wentWrong("lease deliveries", one.err); err != nil {
				return err
			}
			sleep(ctx, pause)
			pause = min(2*pause, backoffMax)
			if err := r.announce(ctx); err != nil {
				return err
			}
		}
	}
}

// reserve says what a call is to ask for, and keeps the places for it; nil when there is nothing to ask for.
func (r *runner) reserve(waits bool) *tesserav1.LeaseRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	places := r.Concurrency - len(r.running) - r.reserved
	if places <= 0 || !waits && !r.freed {
		return nil
	}
	busy := map[string]int{}
	for _, attempt := range r.running {
		busy[attempt.delivery.Endpoint]++
	}
	wait := time.Duration(0)
	if waits {
		wait, r.waits = pollWait, busy
		for _, running := range busy {
			if running >= r.PerEndpoint {
				wait = crowdedWait
			}
		}
	} else {
		for endpoint, running := range r.waits {
			// What the call that waits may fill is left to it.
			if running < r.PerEndpoint {
				busy[endpoint] = r.PerEndpoint
			}
		}
	}
	r.freed = false
	r.reserved += places
	room := &tesserav1.Room{Kind: r.Kind, Places: int32(places)}
	if r.PerEndpoint < r.Concurrency {
		room.PerEndpoint = int32(r.PerEndpoint)
	}
	request := &tesserav1.LeaseRequest{Rooms: []*tesserav1.Room{room}, Wait: durationpb.New(wait)}
	for endpoint, running := range busy {
		request.Busy = append(request.Busy, &tesserav1.Busy{Endpoint: endpoint, Running: int32(running)})
	}
	return request
}

// ask leases, and begins what it is given.
func (r *runner) ask(ctx, work context.Context, waits bool, request *tesserav1.LeaseRequest) error {
	call, done := context.WithTimeout(ctx, request.GetWait().AsDuration()+callTimeout)
	defer done()
	response, err := r.actions.Lease(call, request)
	r.mu.Lock()
	r.reserved -= int(request.GetRooms()[0].GetPlaces())
	if waits {
		r.waits = nil
	}
	if err == nil {
		r.lease = max(response.GetLease().AsDuration(), time.Second)
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	r.answered()
	for _, leased := range response.GetDeliveries() {
		r.begin(work, leased)
	}
	return nil
}

// stuck is the error of a connector of which every place is held by a handler that was given up and does not return.
func (r *runner) stuck() error {
	attempts := r.attempts()
	for _, attempt := range attempts {
		r.mu.Lock()
		settled := attempt.settled
		r.mu.Unlock()
		if !settled {
			return nil
		}
	}
	if len(attempts) < r.Concurrency {
		return nil
	}
	return errors.New("tessera: every place is held by a handler that does not return; start the connector again")
}

// beat keeps the leases of what is at work until ctx ends.
func (r *runner) beat(ctx context.Context) error {
	for {
		r.mu.Lock()
		pause := r.lease / 3
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		for err := r.extend(ctx); err != nil && ctx.Err() == nil; err = r.extend(ctx) {
			if err := r.wentWrong("keep the leases of deliveries", err); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
		}
	}
}

// extend puts off the end of the leases, and tells those whose lease is lost.
func (r *runner) extend(ctx context.Context) error {
	held, request := map[leaseKey]*attempt{}, &tesserav1.ExtendRequest{}
	r.mu.Lock()
	for key, attempt := range r.running {
		if !attempt.settled && !attempt.lost {
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
			r.Logger.Warn("the lease of a delivery is lost", "delivery", lost.GetDeliveryId())
			attempt.cancel(ErrLeaseLost)
		}
	}
	return nil
}
