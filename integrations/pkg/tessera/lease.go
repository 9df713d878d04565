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
	// leaseDefault is how long leases hold until the server has said it.
	leaseDefault = 30 * time.Second
	// pollWait is how long a call waits for something that is due. A stop waits for its answer, because a call that is cancelled may
	// have leased something, which nobody would work on until its lease runs out; so it is short.
	pollWait = 2 * time.Second
	// answerMax is how long a stop waits for that answer.
	answerMax = pollWait + 500*time.Millisecond
	// crowdedPause is how long after an answer the next call is made at the latest while an endpoint has its share.
	crowdedPause = 250 * time.Millisecond
)

// leaseAll keeps the places filled until ctx ends, by one call at a time.
//
// A call asks for the places that are free, and waits when nothing is due. What becomes free meanwhile is asked for by the next one,
// at once, for whatever is due ends the wait. The exception is an endpoint that has its share: a call that waits is told nothing of
// what is due there, even when an attempt there ends. Then no call waits, and the next is made when a place becomes free.
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
			r.awaitPlace(ctx, callTimeout)
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
				r.awaitPlace(ctx, crowdedPause)
			}
			continue
		case status.Code(err) == codes.ResourceExhausted:
			r.Logger.Error("an answer is larger than this connector reads; its deliveries come again, one at a time, when their leases run out",
				"most", MessageMax, "error", status.Convert(err).Message())
			single = time.Now().Add(2 * r.leaseLength())
			sleep(ctx, pause)
		default:
			if err := r.wentWrong("lease deliveries", err); err != nil {
				return err
			}
			sleep(ctx, pause)
			// What answers next may be a new server, which has not heard of this connector.
			if err := r.announce(ctx); err != nil {
				return err
			}
		}
		pause = min(2*pause, backoffMax)
	}
	return nil
}

// awaitPlace waits until a place becomes free, at most so long.
func (r *runner) awaitPlace(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-r.freed:
	case <-timer.C:
	}
}

// request asks for the places that are free, or for a single one of them; nil when none is free.
func (r *runner) request(single bool) *tesserav1.LeaseRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	places := r.Concurrency - len(r.running)
	if places <= 0 {
		return nil
	}
	if single {
		places = 1
	}
	busy := map[string]int32{}
	for _, attempt := range r.running {
		busy[attempt.delivery.Endpoint]++
	}
	wait := pollWait
	request := &tesserav1.LeaseRequest{
		Rooms: []*tesserav1.Room{{Kind: r.Kind, Places: int32(places), PerEndpoint: int32(r.PerEndpoint)}},
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

// ask leases. When ctx ends it still waits for the answer, for a moment.
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

// stuck is the error of a connector of which every place is held by a handler that was given up and does not return.
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
	return errors.New("tessera: every place is held by a handler that does not return; start the connector again")
}

// beat keeps the leases of what is at work until ctx ends, each third of their length.
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
			if err := r.wentWrong("keep the leases of deliveries", err); err != nil {
				return err
			}
			sleep(ctx, pause)
			pause = min(2*pause, backoffMax)
		}
	}
}

// extend puts off the end of the leases, and calls off the attempts whose lease is lost.
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
