package tessera_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
)

// page reads a page of a connector's own HTTP server.
func page(t *testing.T, address, path string) (int, string) {
	t.Helper()
	response, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestHealthAndMetricsAreServed(t *testing.T) {
	server := connectortest.NewServer(t, connectortest.Options{})
	server.Stop()
	c := run(t, server, func(config *tessera.Config) { config.Listen = "127.0.0.1:0" }, func(_ context.Context, delivery *tessera.Delivery) error {
		if delivery.Attempt == 1 {
			return errors.New("not yet")
		}
		return nil
	})
	var address string
	connectortest.Eventually(t, "the log says where it serves", func() bool {
		found := regexp.MustCompile(`msg="serving health and metrics" address=(\S+)`).FindStringSubmatch(c.logs.String())
		if found != nil {
			address = found[1]
		}
		return found != nil
	})
	if code, body := page(t, address, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("%d %s", code, body)
	}
	if code, body := page(t, address, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "does not respond") {
		t.Errorf("%d %s", code, body)
	}
	if _, body := page(t, address, "/metrics"); !strings.Contains(body, `tessera_connector_connected{kind="test"} 0`) {
		t.Errorf("\n%s", body)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	id := server.QueueJSON(`{}`)
	server.Settled(t, id, 0)
	server.Advance(connectortest.Schedule)
	server.Settled(t, id, 1)
	if code, body := page(t, address, "/readyz"); code != http.StatusOK || body != "ready\n" {
		t.Errorf("%d %s", code, body)
	}
	for _, line := range []string{
		`tessera_connector_attempts_total{kind="test",outcome="delivered"} 1`, `tessera_connector_attempts_total{kind="test",outcome="retry"} 1`,
		`tessera_connector_attempt_seconds_count{kind="test"} 2`, `tessera_connector_running{kind="test"} 0`,
		`tessera_connector_connected{kind="test"} 1`, `tessera_connector_settle_errors_total{kind="test"} `,
	} {
		connectortest.Eventually(t, line, func() bool {
			_, body := page(t, address, "/metrics")
			return strings.Contains(body, line)
		})
	}
	if err := c.end(t); err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + address + "/healthz"); err == nil {
		t.Error("a connector that has ended is not healthy")
	}
}
