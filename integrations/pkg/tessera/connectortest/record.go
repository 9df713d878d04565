package connectortest

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// Record is what a server knows of a delivery.
type Record struct {
	// Leases are all that were given, the first first.
	Leases []Lease
	// Attempts is how many of them count.
	Attempts int
	// End is OUTCOME_DELIVERED or OUTCOME_PERMANENT, or OUTCOME_UNSPECIFIED while there is none.
	End tesserav1.Outcome
	// Ends is how often an end was recorded. A success may follow a failure; anything else is recorded once.
	Ends int
	// Leased says whether somebody is at work on it.
	Leased bool
	// DueIn is how far the clock must go until it can be leased.
	DueIn time.Duration
}

// Lease is what a server knows of a lease.
type Lease struct {
	// Number is that of the lease.
	Number int64
	// Settlement is what came of it, as it was recorded; nil when nothing did.
	Settlement *tesserav1.Settlement
	// Told is how often something was said of it, and Extended how often it was extended.
	Told, Extended int
}

// Record is what the server knows of a delivery.
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

// Ends is how many deliveries were delivered or given up.
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

// Settled waits until a lease of a delivery, from 0, is settled, and returns what came of it.
func (s *Server) Settled(t testing.TB, id string, lease int) *tesserav1.Settlement {
	t.Helper()
	settlement := s.Await(id, lease)
	if settlement == nil {
		t.Fatalf("after %s lease %d of the delivery is not settled", Patience, lease)
	}
	return settlement
}

// Await is [Server.Settled] where there is no test; nil when it took longer than [Patience].
func (s *Server) Await(id string, lease int) *tesserav1.Settlement {
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if record := s.Record(id); len(record.Leases) > lease && record.Leases[lease].Settlement != nil {
			return record.Leases[lease].Settlement
		}
	}
	return nil
}

// Eventually waits until something is so, and fails the test when that takes longer than [Patience].
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s it is still not so that %s", Patience, what)
		}
	}
}

// kept is a delivery as a server keeps it.
type kept struct {
	made *tesserav1.Delivery
	// due is when it can be leased, on the server's clock; while it is leased, when the lease runs out.
	due    time.Duration
	leases []*Lease
	// current is the newest lease, until it is settled or lost; 0 when there is none.
	current   int64
	attempts  int
	end       tesserav1.Outcome
	ends      int
	cancelled bool
	// answered are the recipients of a mail that have a final answer.
	answered map[string]bool
}

// lease gives leases of what is due, oldest first, as far as there is room.
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

// give gives a lease.
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

// settle takes what came of an attempt: a success from every lease that was ever given, a failure only from the newest, each lease once.
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

// outcome is what a settlement comes to: for a mail it follows from what was said of its recipients.
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
