package connectortest

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

func delivers(t *testing.T, d *desk) {
	connector := d.start(t, nil)
	ids := d.queue("a", "b", "c")
	d.delivered(t, ids...)
	connector.stop(t)
	for _, id := range ids {
		record, arrived := d.Record(id), d.connector.Receiver.Arrived(id)
		if len(record.Leases) != 1 || record.Leases[0].Told != 1 || arrived != 1 {
			t.Errorf("it arrived %d times: %+v", arrived, record)
		}
		if s := record.Leases[0].Settlement; s.GetDetail() == "" || s.GetDuration() == nil {
			t.Errorf("%v lacks the detail or the duration", s)
		}
	}
	announced := d.Announced()
	if len(announced) == 0 || announced[0].GetKind() != d.connector.Kind || announced[0].GetSoftware() == "" {
		t.Errorf("the connector announced %v", announced)
	}
}

func refused(t *testing.T, d *desk) {
	d.behave(Refuses)
	d.start(t, nil)
	id := d.queue("a")[0]
	settlement := d.Settled(t, id, 0)
	d.behave(Accepts)
	if settlement.GetDetail() == "" {
		t.Error("the settlement has no detail")
	}
	record := d.Record(id)
	switch {
	case record.End == tesserav1.Outcome_OUTCOME_PERMANENT && record.Ends == 1:
	case record.End == tesserav1.Outcome_OUTCOME_UNSPECIFIED && record.DueIn > 0:
		d.Advance(record.DueIn)
		d.delivered(t, id)
	default:
		t.Errorf("%v led to %+v", settlement, record)
	}
}

func killed(t *testing.T, d *desk) {
	d.behave(Hangs)
	wire := newWire(t, d.Config().Address)
	d.start(t, func(config *tessera.Config) { config.Address, config.Concurrency = wire.address, 1 })
	id := d.queue("a")[0]
	d.arrived(t, 1, id)
	// To the server, a connector that is cut off looks like one that was killed.
	wire.cut()
	second := d.start(t, nil)
	d.Advance(longLease)
	d.arrived(t, 2, id)
	d.behave(Accepts)
	d.delivered(t, id)
	second.stop(t)
	if record := d.Record(id); len(record.Leases) != 2 || record.Leases[0].Settlement != nil {
		t.Errorf("%+v", record)
	}
}

func answersTwice(t *testing.T, d *desk) {
	d.loses("Settle", 2)
	connector := d.start(t, nil)
	id := d.queue("a")[0]
	Eventually(t, "the settlement is repeated until a response arrives", func() bool { return d.Calls("Settle") >= 3 })
	connector.stop(t)
	d.delivered(t, id)
	if record := d.Record(id); len(record.Leases) != 1 || record.Leases[0].Told != 3 || d.connector.Receiver.Arrived(id) != 1 {
		t.Errorf("%+v", record)
	}
}

func answersLate(t *testing.T, d *desk) {
	d.behave(Hangs)
	alone := func(config *tessera.Config) { config.Concurrency = 1 }
	first := d.start(t, alone)
	id := d.queue("a")[0]
	d.arrived(t, 1, id)
	d.Advance(longLease)
	second := d.start(t, alone)
	d.arrived(t, 2, id)
	d.behave(Accepts)
	for lease := range 2 {
		if s := d.Settled(t, id, lease); s.GetOutcome() != tesserav1.Outcome_OUTCOME_DELIVERED {
			t.Errorf("lease %d was settled as %v", lease, s)
		}
	}
	d.delivered(t, id)
	first.stop(t)
	second.stop(t)
}

func keepsLease(t *testing.T, d *desk) {
	d.behave(Hangs)
	d.start(t, nil)
	id := d.queue("a")[0]
	Eventually(t, "the lease is extended again and again", func() bool {
		record := d.Record(id)
		return len(record.Leases) == 1 && record.Leases[0].Extended >= 3
	})
	d.behave(Accepts)
	d.delivered(t, id)
}

func calledOff(t *testing.T, d *desk) {
	d.behave(Hangs)
	d.start(t, func(config *tessera.Config) { config.Concurrency = 1 })
	id := d.queue("a")[0]
	d.arrived(t, 1, id)
	d.Cancel(id)
	if s := d.Settled(t, id, 0); s.GetOutcome() == tesserav1.Outcome_OUTCOME_DELIVERED {
		t.Errorf("the receiver did not accept it, but it was settled as %v", s)
	}
	d.behave(Accepts)
	d.delivered(t, d.queue("a")...)
}

func hangs(t *testing.T, d *desk) {
	d.behave(Hangs)
	d.start(t, func(config *tessera.Config) { config.Concurrency, config.Timeout = 1, shortTimeout })
	id := d.queue("a")[0]
	if s := d.Settled(t, id, 0); s.GetOutcome() != tesserav1.Outcome_OUTCOME_RETRY || s.GetDetail() == "" {
		t.Errorf("an attempt that timed out was settled as %v", s)
	}
	d.behave(Accepts)
	ids := append(d.queue("a"), id)
	for _, id := range ids {
		// On a busy machine an attempt may time out once more.
		Eventually(t, "the delivery is recorded as delivered", func() bool {
			record := d.Record(id)
			if !record.Leased && record.End == tesserav1.Outcome_OUTCOME_UNSPECIFIED {
				d.Advance(record.DueIn)
			}
			return record.End == tesserav1.Outcome_OUTCOME_DELIVERED
		})
	}
}

func restarts(t *testing.T, d *desk) {
	connector := d.start(t, nil)
	d.delivered(t, d.queue("a", "b")...)
	d.behave(Hangs)
	during := d.queue("a", "b")
	d.arrived(t, 1, during...)
	d.Stop()
	d.behave(Accepts)
	after := d.queue("a", "b", "c")
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	d.delivered(t, append(during, after...)...)
	for _, id := range during {
		if record := d.Record(id); len(record.Leases) != 1 || d.connector.Receiver.Arrived(id) != 1 {
			t.Errorf("a running attempt was repeated: %+v", record)
		}
	}
	Eventually(t, "the connector announces itself again", func() bool { return len(d.Announced()) >= 2 })
	connector.stop(t)
}

func wrongToken(t *testing.T, d *desk) {
	connector := d.start(t, func(config *tessera.Config) { config.Token = "tsc_" + strings.Repeat("A", 43) })
	said(t, connector.wait(t))
}

func revoked(t *testing.T, d *desk) {
	connector := d.start(t, nil)
	d.delivered(t, d.queue("a")...)
	d.Revoke()
	said(t, connector.wait(t))
}

// said checks that an error explains how to create a token.
func said(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "token") || !strings.Contains(err.Error(), "tessera connector add") {
		t.Errorf("the error does not explain what to do: %v", err)
	}
}

func oversize(t *testing.T, d *desk) {
	large := &tesserav1.Delivery{Id: newID(), Ticket: &tesserav1.TicketKey{Url: strings.Repeat("x", tessera.MessageMax)}}
	d.connector.Receiver.Fill(large)
	d.Queue(large)
	ids := d.queue("a", "b", "c")
	connector := d.start(t, nil)
	Eventually(t, "the large delivery is leased", func() bool { return len(d.Record(large.GetId()).Leases) == 1 })
	// Deliveries from the same response are leased again when their leases expire.
	d.Advance(longLease)
	d.delivered(t, ids...)
	connector.stop(t)
}

func drains(t *testing.T, d *desk) {
	d.behave(Hangs)
	connector := d.start(t, nil)
	ids := d.queue("a", "b")
	d.arrived(t, 1, ids...)
	connector.stop(t)
	d.behave(Accepts)
	for _, id := range ids {
		record := d.Record(id)
		if s := record.Leases[0].Settlement; s.GetOutcome() != tesserav1.Outcome_OUTCOME_RETURNED || record.DueIn > 0 || record.Attempts != 0 {
			t.Errorf("%v led to %+v", s, record)
		}
	}
	d.start(t, nil)
	d.delivered(t, ids...)
}

func bounded(t *testing.T, d *desk) {
	const places = 3
	d.behave(Hangs)
	d.start(t, func(config *tessera.Config) { config.Concurrency = places })
	ids := d.queue("a", "b", "c", "d", "e", "f", "g")
	d.arrived(t, 1, ids[:places]...)
	for _, id := range ids[places:] {
		if len(d.Record(id).Leases) > 0 {
			t.Error("more deliveries were leased than there are slots")
		}
	}
	d.behave(Accepts)
	d.delivered(t, ids...)
	for _, request := range d.Asked() {
		asked := request.GetRooms()[0].GetPlaces()
		for _, busy := range request.GetBusy() {
			asked += busy.GetRunning()
		}
		if asked > places {
			t.Errorf("%d slots, but the connector requested %v", places, request)
		}
	}
}

func shares(t *testing.T, d *desk) {
	d.behave(Hangs)
	d.start(t, func(config *tessera.Config) { config.Concurrency, config.PerEndpoint = 4, 1 })
	ids := d.queue("a", "a", "a", "b")
	d.arrived(t, 1, ids[0], ids[3])
	// Proves that another call was made while "a" and "b" had reached their limits.
	d.arrived(t, 1, d.queue("c")...)
	for _, id := range ids[1:3] {
		if len(d.Record(id).Leases) > 0 {
			t.Error("an endpoint got more deliveries than its limit")
		}
	}
	d.behave(Accepts)
	d.delivered(t, ids...)
}

// wire is a connection to the server that can be cut.
type wire struct {
	address  string
	listener net.Listener

	mu    sync.Mutex
	isCut bool
	ends  []net.Conn
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: listener.Addr().String(), listener: listener}
	t.Cleanup(w.cut)
	go w.carry(server)
	return w
}

func (w *wire) carry(server string) {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.DialTimeout("tcp", server, Patience)
		if err != nil {
			_ = near.Close()
			continue
		}
		w.mu.Lock()
		w.ends = append(w.ends, near, far)
		isCut := w.isCut
		w.mu.Unlock()
		if isCut {
			w.cut()
			return
		}
		for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
			go func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = pair[0].Close()
			}()
		}
	}
}

// cut cuts it permanently.
func (w *wire) cut() {
	_ = w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for _, end := range w.ends {
		_ = end.Close()
	}
}
