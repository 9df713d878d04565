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

// readyFor is how long a connector counts as ready after the server's last answer: an idle one hears something every 2 seconds, a busy one
// every third of a lease.
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
			Name: "tessera_connector_attempts_total", Help: "Attempts that came to an end, by outcome.", ConstLabels: labels,
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tessera_connector_attempt_seconds", Help: "How long attempts took.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tessera_connector_running", Help: "Attempts under way.", ConstLabels: labels,
		}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tessera_connector_connected", Help: "1 while Tessera answers, else 0.", ConstLabels: labels,
		}),
		settleErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tessera_connector_settle_errors_total", Help: "Calls that did not settle what they should have.", ConstLabels: labels,
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

// outcomeOf is the word for an outcome, in labels and in the log.
func outcomeOf(settlement *tesserav1.Settlement) string {
	return strings.ToLower(strings.TrimPrefix(settlement.GetOutcome().String(), "OUTCOME_"))
}

// answered notes that the server answers.
func (r *runner) answered() {
	r.mu.Lock()
	was := r.out
	r.heard, r.out = time.Now(), false
	r.mu.Unlock()
	r.metrics.connected.Set(1)
	if was {
		r.Logger.Info("Tessera answers again", "address", r.Address)
	}
}

// wentWrong notes a call that failed, and tells of it once, until the server answers again. Its error is one that trying again cannot
// help.
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
		r.Logger.Warn("cannot "+doing+"; trying again", "address", r.Address, "error", status.Convert(err).Message())
	}
	return nil
}

// refusal says what to do about an answer that will be the same the next time.
func (r *runner) refusal(err error) error {
	message := strings.TrimSuffix(status.Convert(err).Message(), ".")
	switch status.Code(err) {
	case codes.Unauthenticated:
		return fmt.Errorf("tessera: the server does not take the token (%s); `tessera connector add NAME --kind %s` prints one", message, r.Kind)
	case codes.PermissionDenied:
		return fmt.Errorf("tessera: the token does not open the kind %q (%s); `tessera connector add NAME --kind %s` prints one that does",
			r.Kind, message, r.Kind)
	case codes.Unimplemented:
		return fmt.Errorf("tessera: what listens at %s is no Tessera that connectors can use (%s); look at Address", r.Address, message)
	}
	return fmt.Errorf("tessera: the server does not take this connector (%s); look at Kind, Schema and Software", message)
}

// serve begins to serve health and metrics, if that is asked for; the function ends it.
func (r *runner) serve() (func(), error) {
	if r.Listen == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", r.Listen)
	if err != nil {
		return nil, fmt.Errorf("tessera: cannot serve health and metrics: %w", err)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	routes.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		ready := time.Since(r.heard) < readyFor
		r.mu.Unlock()
		if !ready {
			http.Error(w, "Tessera at "+r.Address+" does not answer", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	routes.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: routes, ReadHeaderTimeout: callTimeout}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			r.Logger.Error("health and metrics are not served any more", "error", err)
		}
	}()
	r.Logger.Info("health and metrics", "address", listener.Addr().String())
	return func() {
		ctx, done := context.WithTimeout(context.Background(), time.Second)
		defer done()
		_ = server.Shutdown(ctx)
	}, nil
}
