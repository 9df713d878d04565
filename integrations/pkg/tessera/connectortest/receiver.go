package connectortest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// Receiver is what a connector under test delivers to.
type Receiver interface {
	// Fill puts a payload into a delivery, so that the connector delivers it to this receiver, which can tell its id.
	Fill(delivery *tesserav1.Delivery)
	// Behave says how the receiver answers from now on; what hangs is answered so, too.
	Behave(behaviour Behaviour)
	// Arrived is how often a delivery arrived, whatever was answered.
	Arrived(id string) int
}

// Behaviour is how a receiver answers.
type Behaviour int

const (
	// Accepts: it takes what arrives, at once.
	Accepts Behaviour = iota
	// Refuses: it does not take it, and says so at once.
	Refuses
	// Hangs: it does not answer.
	Hangs
)

// Gate is the part that receivers have in common: it counts, and lets arrivals wait while the receiver hangs. The zero Gate accepts.
type Gate struct {
	mu        sync.Mutex
	behaviour Behaviour
	changed   chan struct{}
	arrived   map[string]int
}

// Behave is [Receiver.Behave].
func (g *Gate) Behave(behaviour Behaviour) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.behaviour = behaviour
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// Arrived is [Receiver.Arrived].
func (g *Gate) Arrived(id string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.arrived[id]
}

// Arrive counts a delivery, waits while the receiver hangs, and returns how to answer: with Hangs when ctx ended first.
func (g *Gate) Arrive(ctx context.Context, id string) Behaviour {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.arrived == nil {
		g.arrived = map[string]int{}
	}
	g.arrived[id]++
	for g.behaviour == Hangs {
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		g.mu.Lock()
		if ctx.Err() != nil {
			return Hangs
		}
	}
	return g.behaviour
}

// HTTPReceiver takes deliveries over HTTP. It accepts with 200 and refuses with 503.
type HTTPReceiver struct {
	Gate
	// URL is where it listens.
	URL string

	fill func(delivery *tesserav1.Delivery, url string)
}

// NewHTTPReceiver starts a receiver that ends with the test. Fill puts into a delivery a payload that goes to the URL, and id finds in a
// request what Fill put there.
func NewHTTPReceiver(
	t testing.TB, fill func(delivery *tesserav1.Delivery, url string), id func(request *http.Request, body []byte) string,
) *HTTPReceiver {
	t.Helper()
	receiver := &HTTPReceiver{fill: fill}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		// Only when the body was read does the request's context end with the connection.
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		switch receiver.Arrive(request.Context(), id(request, body)) {
		case Accepts:
			_, _ = io.WriteString(w, "ok")
		case Refuses:
			http.Error(w, "not now", http.StatusServiceUnavailable)
		case Hangs:
		}
	}))
	receiver.URL = server.URL
	t.Cleanup(func() {
		receiver.Behave(Accepts)
		server.Close()
	})
	return receiver
}

// Fill is [Receiver.Fill].
func (r *HTTPReceiver) Fill(delivery *tesserav1.Delivery) { r.fill(delivery, r.URL) }
