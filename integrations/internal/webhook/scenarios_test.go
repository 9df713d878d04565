package webhook

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"tessera.dev/integrations/internal/scenarios"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// A hookScenario is one line of the table, which Tessera's own workers are tested with as well.
type hookScenario struct {
	scenarios.Expected
	// Answer is the response of the receiver; nil if no request may be sent.
	Answer *string
	// URL is the complete URL; if it is empty, the URL is Target at the receiver.
	URL, Target, Method string
	Headers             [][2]json.RawMessage
	Secret              string
	Secrets             map[string]string
	Response            string
	// Heard are lines that the request must contain, and Line is its first line.
	Heard []string
	Line  string
}

// webhook returns the request as Tessera sends it to connectors: with its secrets filled in, and a Content-Type.
func (s hookScenario) webhook(t *testing.T, server string) *tesserav1.WebhookRequest {
	t.Helper()
	made := hook("http://" + server + s.Target)
	if s.URL != "" {
		made.Url = s.URL
	}
	if s.Method != "" {
		made.Method = s.Method
	}
	made.Secrets, made.SigningKey = s.Secrets, s.Secrets[s.Secret]
	for _, pair := range s.Headers {
		var name, value string
		var secret struct{ Secret string }
		if err := json.Unmarshal(pair[0], &name); err != nil {
			t.Fatal(err)
		}
		if json.Unmarshal(pair[1], &secret) == nil {
			value = s.Secrets[secret.Secret]
		} else if err := json.Unmarshal(pair[1], &value); err != nil {
			t.Fatal(err)
		}
		made.Headers = append(made.Headers, &tesserav1.Header{Name: name, Value: value})
	}
	return made
}

func TestWebhooksHaveTheResultsInTheTable(t *testing.T) {
	table := scenarios.Load[hookScenario](t, "webhook.json")
	if len(table) <= 60 {
		t.Fatal(len(table))
	}
	for _, scenario := range table {
		// The address is closed if no request may be sent.
		server := listen(t)
		address, requests := server.Addr().String(), (<-chan string)(nil)
		_ = server.Close()
		if scenario.Answer != nil {
			address, requests = answers(t, scenarios.Bytes(*scenario.Answer))
		}
		made := loopback().Send(t.Context(), id, scenario.webhook(t, address))
		scenario.Check(t, made, "{allow}", setting)
		if made.Response != scenario.Response {
			t.Errorf("%s: %q", scenario.Name, made.Response)
		}
		if requests == nil {
			continue
		}
		heard := strings.Split(<-requests, "\r\n")
		for i, line := range heard {
			if name, value, found := strings.Cut(line, ": "); found {
				heard[i] = strings.ToLower(name) + ": " + value
			}
		}
		if scenario.Line != "" && heard[0] != scenario.Line {
			t.Errorf("%s: %s", scenario.Name, heard[0])
		}
		for _, wanted := range scenario.Heard {
			if !slices.ContainsFunc(heard, func(line string) bool { return scenarios.IsLike(line, wanted) }) {
				t.Errorf("%s: no %q in %q", scenario.Name, wanted, heard)
			}
		}
	}
}
