package connectortest

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// Record is the state of a delivery on the server.
type Record struct {
	// Leases are all leases that were granted, oldest first.
	Leases []Lease
	// Attempts is the number of attempts that count.
	Attempts int
	// End is OUTCOME_DELIVERED or OUTCOME_PERMANENT, or OUTCOME_UNSPECIFIED while the delivery is unfinished.
	End tesserav1.Outcome
	// Ends is how often an end was recorded: once, or twice if a success followed a failure.
	Ends int
	// Leased is true while a connector holds the lease.
	Leased bool
	// DueIn is the time by which the clock must be advanced until the delivery can be leased.
	DueIn time.Duration
}

// Lease is the state of a lease on the server.
type Lease struct {
	// Number is the number of the lease.
	Number int64
	// Settlement is the recorded settlement; nil if it was not settled.
	Settlement *tesserav1.Settlement
	// Told is how often a settlement for it was received, and Extended how often it was extended.
	Told, Extended int
}

// Record returns the state of a delivery.
func (s *Server) Record(id string) Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.find(id)
	if one == nil {
		return Record{}
	}
	record := Record{
		Attempts: one.attempts, End: one.end, Ends: one.ends, Leased: one.current != 0, DueIn: max(one.due-s.passed, 0),
	}
	for _, lease := range one.leases {
		record.Leases = append(record.Leases, *lease)
	}
	return record
}

// Ends returns the number of deliveries that were delivered or given up.
func (s *Server) Ends() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends := 0
	for _, one := range s.deliveries {
		if one.end != tesserav1.Outcome_OUTCOME_UNSPECIFIED {
			ends++
		}
	}
	return ends
}

// Settled waits until a lease of a delivery is settled, and returns the settlement. Leases count from 0.
func (s *Server) Settled(t testing.TB, id string, lease int) *tesserav1.Settlement {
	t.Helper()
	settlement := s.Await(id, lease)
	if settlement == nil {
		t.Fatalf("timed out after %s: lease %d of the delivery is not settled", Patience, lease)
	}
	return settlement
}

// Await is [Server.Settled] for use outside tests; it returns nil after [Patience].
func (s *Server) Await(id string, lease int) *tesserav1.Settlement {
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if record := s.Record(id); len(record.Leases) > lease && record.Leases[lease].Settlement != nil {
			return record.Leases[lease].Settlement
		}
	}
	return nil
}

// Eventually waits until a condition is true, and fails the test after [Patience].
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out after %s waiting until %s", Patience, what)
		}
	}
}

// kept is a delivery as the server stores it.
type kept struct {
	made *tesserav1.Delivery
	// due is when it can be leased, on the server's clock; while it is leased, when the lease expires.
	due    time.Duration
	leases []*Lease
	// current is the number of the newest lease until it is settled or lost, otherwise 0.
	current   int64
	attempts  int
	end       tesserav1.Outcome
	ends      int
	cancelled bool
	// answered contains the recipients of a mail for whom there is a final reply.
	answered map[string]bool
}

// lease leases deliveries that are due, oldest first, within the limits of the request.
func (s *Server) lease(request *tesserav1.LeaseRequest) []*tesserav1.Delivery {
	due := slices.Clone(s.deliveries)
	slices.SortStableFunc(due, func(a, b *kept) int { return int(a.due - b.due) })
	var leased []*tesserav1.Delivery
	for _, room := range request.GetRooms() {
		places, running := room.GetPlaces(), map[string]int32{}
		for _, busy := range request.GetBusy() {
			running[busy.GetEndpoint()] = busy.GetRunning()
		}
		for _, one := range due {
			endpoint := one.made.GetEndpoint()
			full := room.GetPerEndpoint() > 0 && running[endpoint] >= room.GetPerEndpoint()
			if s.revoked || places == 0 || full || one.ends > 0 || one.cancelled || one.due > s.passed || one.made.GetKind() != room.GetKind() {
				continue
			}
			places--
			running[endpoint]++
			leased = append(leased, s.give(one))
		}
	}
	return leased
}

// give grants a lease.
func (s *Server) give(one *kept) *tesserav1.Delivery {
	s.lastLease++
	one.current, one.due = s.lastLease, s.passed+s.options.Lease
	one.attempts++
	one.leases = append(one.leases, &Lease{Number: s.lastLease})
	delivery := proto.CloneOf(one.made)
	delivery.Lease, delivery.Attempt = s.lastLease, int32(one.attempts)
	if mail := delivery.GetEmail(); mail != nil {
		mail.Recipients = slices.DeleteFunc(mail.GetRecipients(), func(address string) bool { return one.answered[address] })
	}
	return delivery
}

// settle records the result of an attempt: a success for any lease that was ever granted, a failure only for the newest, each lease once.
func (s *Server) settle(settlement *tesserav1.Settlement) tesserav1.Receipt {
	one := s.find(settlement.GetDeliveryId())
	if one == nil {
		return tesserav1.Receipt_RECEIPT_UNKNOWN_LEASE
	}
	at := slices.IndexFunc(one.leases, func(lease *Lease) bool { return lease.Number == settlement.GetLease() })
	if at < 0 {
		return tesserav1.Receipt_RECEIPT_UNKNOWN_LEASE
	}
	lease := one.leases[at]
	lease.Told++
	if lease.Settlement != nil {
		return tesserav1.Receipt_RECEIPT_ALREADY_SETTLED
	}
	lease.Settlement = settlement
	isCurrent := one.current == lease.Number
	if isCurrent {
		one.current = 0
	}
	switch outcome := one.outcome(settlement); {
	case outcome == tesserav1.Outcome_OUTCOME_DELIVERED && one.end != outcome:
		one.end = outcome
		one.ends++
	case !isCurrent || one.cancelled || one.ends > 0:
	case outcome == tesserav1.Outcome_OUTCOME_PERMANENT:
		one.end = outcome
		one.ends++
	case outcome == tesserav1.Outcome_OUTCOME_RETRY:
		one.due = s.passed + max(Schedule, settlement.GetRetryAfter().AsDuration())
	case outcome == tesserav1.Outcome_OUTCOME_RETURNED:
		one.due = s.passed
		one.attempts--
	}
	return tesserav1.Receipt_RECEIPT_RECORDED
}

// outcome returns the outcome of a settlement; for a mail it is derived from the outcomes of its recipients.
func (k *kept) outcome(settlement *tesserav1.Settlement) tesserav1.Outcome {
	outcome := settlement.GetOutcome()
	if k.made.GetEmail() == nil || len(settlement.GetRecipients()) == 0 || outcome == tesserav1.Outcome_OUTCOME_RETURNED {
		return outcome
	}
	outcome = tesserav1.Outcome_OUTCOME_PERMANENT
	for _, answer := range settlement.GetRecipients() {
		switch answer.GetOutcome() {
		case tesserav1.Outcome_OUTCOME_RETRY:
			outcome = tesserav1.Outcome_OUTCOME_RETRY
			continue
		case tesserav1.Outcome_OUTCOME_DELIVERED:
			if outcome == tesserav1.Outcome_OUTCOME_PERMANENT {
				outcome = tesserav1.Outcome_OUTCOME_DELIVERED
			}
		}
		k.answered[answer.GetAddress()] = true
	}
	return outcome
}
