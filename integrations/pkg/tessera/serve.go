package tessera

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// readyFor is how long a connector counts as ready after the server's last response: an idle connector gets one every 2 seconds, a busy one
// at every third of a lease.
const readyFor = 30 * time.Second

type metrics struct {
	registry     *prometheus.Registry
	attempts     *prometheus.CounterVec
	seconds      prometheus.Histogram
	running      prometheus.Gauge
	connected    prometheus.Gauge
	settleErrors prometheus.Counter
}

func newMetrics(kind string) *metrics {
	labels := prometheus.Labels{"kind": kind}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_connector_attempts_total", Help: "Settled attempts, by outcome.", ConstLabels: labels,
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tessera_connector_attempt_seconds", Help: "Duration of attempts in seconds.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tessera_connector_running", Help: "Attempts in progress.", ConstLabels: labels,
		}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tessera_connector_connected", Help: "1 while Tessera responds, otherwise 0.", ConstLabels: labels,
		}),
		settleErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tessera_connector_settle_errors_total", Help: "Failed calls to settle attempts.", ConstLabels: labels,
		}),
	}
	m.registry.MustRegister(m.attempts, m.seconds, m.running, m.connected, m.settleErrors)
	return m
}

func (m *metrics) attempt(settlement *tesserav1.Settlement) {
	m.attempts.WithLabelValues(outcomeOf(settlement)).Inc()
	if took := settlement.GetDuration(); took != nil {
		m.seconds.Observe(took.AsDuration().Seconds())
	}
}

// outcomeOf returns the name of an outcome, for labels and the log.
func outcomeOf(settlement *tesserav1.Settlement) string {
	return strings.ToLower(strings.TrimPrefix(settlement.GetOutcome().String(), "OUTCOME_"))
}

// answered records that the server responded.
func (r *runner) answered() {
	r.mu.Lock()
	was := r.out
	r.heard, r.out = time.Now(), false
	r.mu.Unlock()
	r.metrics.connected.Set(1)
	if was {
		r.Logger.Info("Tessera responds again", "address", r.Address)
	}
}

// wentWrong records a failed call, and logs it once until the server responds again. It returns an error only if a retry cannot help.
func (r *runner) wentWrong(doing string, err error) error {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return r.refusal(err)
	case codes.Canceled:
		return nil
	}
	r.mu.Lock()
	was := r.out
	r.out = true
	r.mu.Unlock()
	r.metrics.connected.Set(0)
	if !was {
		r.Logger.Warn("cannot "+doing+"; retrying", "address", r.Address, "error", status.Convert(err).Message())
	}
	return nil
}

// refusal returns an error that tells the operator how to fix a rejection that retries would only repeat.
func (r *runner) refusal(err error) error {
	message := strings.TrimSuffix(status.Convert(err).Message(), ".")
	switch status.Code(err) {
	case codes.Unauthenticated:
		return fmt.Errorf("tessera: the server rejected the token (%s); `tessera connector add NAME --kind %s` creates a new one", message, r.Kind)
	case codes.PermissionDenied:
		return fmt.Errorf("tessera: the token is not bound to the kind %q (%s); `tessera connector add NAME --kind %s` creates one that is",
			r.Kind, message, r.Kind)
	case codes.Unimplemented:
		return fmt.Errorf("tessera: the server at %s does not provide Tessera's services for connectors (%s); check Address", r.Address, message)
	}
	return fmt.Errorf("tessera: the server rejected this connector (%s); check Kind, Schema and Software", message)
}

// serve starts to serve health and metrics if Listen is set; the returned function stops it.
func (r *runner) serve() (func(), error) {
	if r.Listen == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", r.Listen)
	if err != nil {
		return nil, fmt.Errorf("tessera: cannot serve health and metrics at Listen: %w", err)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	routes.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		ready := time.Since(r.heard) < readyFor
		r.mu.Unlock()
		if !ready {
			http.Error(w, "Tessera at "+r.Address+" does not respond", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	routes.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: routes, ReadHeaderTimeout: callTimeout}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			r.Logger.Error("stopped serving health and metrics", "error", err)
		}
	}()
	r.Logger.Info("serving health and metrics", "address", listener.Addr().String())
	return func() {
		ctx, done := context.WithTimeout(context.Background(), time.Second)
		defer done()
		_ = server.Shutdown(ctx)
	}, nil
}
