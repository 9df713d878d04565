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

// Receiver is the receiver that a connector under test delivers to.
type Receiver interface {
	// Fill sets the payload of a delivery so that the connector delivers it to this receiver, which can read its id from it.
	Fill(delivery *tesserav1.Delivery)
	// Behave sets how the receiver responds from now on, also to deliveries that hang.
	Behave(behaviour Behaviour)
	// Arrived returns how often a delivery arrived, whatever the response was.
	Arrived(id string) int
}

// Behaviour is how a receiver responds.
type Behaviour int

const (
	// Accepts means that it accepts deliveries immediately.
	Accepts Behaviour = iota
	// Refuses means that it rejects deliveries immediately.
	Refuses
	// Hangs means that it does not respond.
	Hangs
)

// Gate is the common part of receivers: it counts arrivals, and blocks them while the receiver hangs. The zero Gate accepts.
type Gate struct {
	mu        sync.Mutex
	behaviour Behaviour
	changed   chan struct{}
	arrived   map[string]int
}

// Behave implements [Receiver].
func (g *Gate) Behave(behaviour Behaviour) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.behaviour = behaviour
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// Arrived implements [Receiver].
func (g *Gate) Arrived(id string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.arrived[id]
}

// Arrive counts a delivery, waits while the receiver hangs, and returns how to respond: Hangs if ctx ended first.
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

// HTTPReceiver receives deliveries over HTTP. It accepts with 200 and rejects with 503.
type HTTPReceiver struct {
	Gate
	// URL is its address.
	URL string

	fill func(delivery *tesserav1.Delivery, url string)
}

// NewHTTPReceiver starts a receiver that is stopped when the test ends. The function fill sets the payload of a delivery so that it goes
// to the URL, and id returns the id of the delivery from a request.
func NewHTTPReceiver(
	t testing.TB, fill func(delivery *tesserav1.Delivery, url string), id func(request *http.Request, body []byte) string,
) *HTTPReceiver {
	t.Helper()
	receiver := &HTTPReceiver{fill: fill}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		// The request's context ends with the connection only after the body has been read.
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

// Fill implements [Receiver].
func (r *HTTPReceiver) Fill(delivery *tesserav1.Delivery) { r.fill(delivery, r.URL) }
