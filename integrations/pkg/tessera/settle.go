package tessera

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// batchMax is the maximum number of attempts that one call settles, and batchWait how long the first of them waits for others.
	batchMax  = 100
	batchWait = 10 * time.Millisecond
)

// settleAll settles attempts until the queue is closed. When ctx has ended or the server has rejected this connector, it discards the
// rest: the leases expire, and the deliveries are leased again.
func (r *runner) settleAll(ctx context.Context) error {
	var failed error
	for first := range r.ended {
		batch := r.gather(first)
		if failed == nil {
			failed = r.settleBatch(ctx, batch)
		}
		if failed != nil || ctx.Err() != nil {
			r.Logger.Error("attempts could not be recorded; their deliveries will be retried", "attempts", len(batch))
		}
	}
	return failed
}

// gather collects settlements that follow within batchWait of the first, up to batchMax.
func (r *runner) gather(first *tesserav1.Settlement) []*tesserav1.Settlement {
	batch, timer := []*tesserav1.Settlement{first}, time.NewTimer(batchWait)
	defer timer.Stop()
	for len(batch) < batchMax {
		select {
		case next, open := <-r.ended:
			if !open {
				return batch
			}
			batch = append(batch, next)
		case <-timer.C:
			return batch
		}
	}
	return batch
}

// settleBatch settles attempts, and retries until ctx ends while the server cannot be reached.
func (r *runner) settleBatch(ctx context.Context, batch []*tesserav1.Settlement) error {
	for pause := backoffMin; ctx.Err() == nil; pause = min(2*pause, backoffMax) {
		err := r.trySettle(ctx, batch)
		if err == nil {
			return nil
		}
		r.metrics.settleErrors.Inc()
		switch status.Code(err) {
		case codes.InvalidArgument, codes.OutOfRange, codes.ResourceExhausted:
			// A settlement is invalid or too large; a retry would fail, too.
			return r.settleEach(ctx, batch, err)
		}
		if err := r.wentWrong("settle deliveries", err); err != nil {
			return err
		}
		sleep(ctx, pause)
	}
	return nil
}

// settleEach settles the attempts of a rejected batch one at a time, so that an invalid one does not block the others.
func (r *runner) settleEach(ctx context.Context, batch []*tesserav1.Settlement, refused error) error {
	if len(batch) == 1 {
		r.Logger.Error("the server rejected the result of an attempt; its delivery will be retried",
			"delivery", batch[0].GetDeliveryId(), "error", status.Convert(refused).Message())
		// Nothing will settle it, so its lease must expire.
		r.mu.Lock()
		delete(r.leases, leaseKey{batch[0].GetDeliveryId(), batch[0].GetLease()})
		r.mu.Unlock()
		return nil
	}
	for at := range batch {
		if err := r.settleBatch(ctx, batch[at:at+1]); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) trySettle(ctx context.Context, batch []*tesserav1.Settlement) error {
	call, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	response, err := r.actions.Settle(call, &tesserav1.SettleRequest{Settlements: batch})
	if err != nil {
		return err
	}
	r.answered()
	r.mu.Lock()
	for _, settled := range batch {
		delete(r.leases, leaseKey{settled.GetDeliveryId(), settled.GetLease()})
	}
	r.mu.Unlock()
	for at, receipt := range response.GetReceipts() {
		if at >= len(batch) {
			break
		}
		delivery := batch[at].GetDeliveryId()
		switch receipt {
		case tesserav1.Receipt_RECEIPT_UNKNOWN_LEASE:
			r.Logger.Error("settled a lease that the server did not grant to this connector", "delivery", delivery)
		case tesserav1.Receipt_RECEIPT_HELD:
			r.Logger.Error("the server cannot record an attempt and holds its delivery; see the log of the server", "delivery", delivery)
		}
	}
	return nil
}

// announce announces the connector, and retries until ctx ends.
func (r *runner) announce(ctx context.Context) error {
	for pause := backoffMin; ctx.Err() == nil; pause = min(2*pause, backoffMax) {
		call, done := context.WithTimeout(ctx, callTimeout)
		response, err := r.scrips.Announce(call, &tesserav1.AnnounceRequest{
			Kind: r.Kind, Schema: r.Schema, Software: r.Software,
		})
		done()
		if err == nil {
			r.answered()
			for _, scrip := range response.GetMisfits() {
				r.Logger.Warn("a scrip's payload does not match the schema of this connector; the scrip will fail", "scrip", scrip)
			}
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if status.Code(err) == codes.InvalidArgument {
			return r.refusal(err)
		}
		if err := r.wentWrong("announce the connector", err); err != nil {
			return err
		}
		sleep(ctx, pause)
	}
	return nil
}

// sleep waits for about the given time, or until ctx ends. The jitter keeps connectors from reconnecting all at once.
func sleep(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause/2 + rand.N(pause)):
	}
}
