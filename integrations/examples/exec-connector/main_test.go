package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

func TestTheExecConnectorConforms(t *testing.T) {
	c := allowing(t, map[string]string{"ask": `curl -sf -o /dev/null "$(cut -d'"' -f8)" || exit 75` + "\n"})
	fill := func(delivery *tesserav1.Delivery, url string) {
		payload := fmt.Sprintf(`{"command": "ask", "url": "%s?%s"}`, url, delivery.GetId())
		delivery.Payload = &tesserav1.Delivery_Json{Json: payload}
	}
	id := func(request *http.Request, _ []byte) string { return request.URL.RawQuery }
	connectortest.Run(t, connectortest.Connector{
		Kind: "exec", Receiver: connectortest.NewHTTPReceiver(t, fill, id),
		Start: func(ctx context.Context, config tessera.Config) error {
			config.Schema = c.schema()
			return tessera.Run(ctx, config, c.run)
		},
	})
}

// soon is a generous timeout; only a failing test waits so long.
const soon = time.Minute

// allowing returns a connector that may run the given sh scripts, by name.
func allowing(t *testing.T, scripts map[string]string) *connector {
	t.Helper()
	c := &connector{commands: map[string]string{}}
	for name, script := range scripts {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := c.allow(path); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func delivery(payload string) *tessera.Delivery {
	return &tessera.Delivery{ID: "d-1", Kind: "exec", Attempt: 2, JSON: []byte(payload), TransactionID: "t-1",
		Ticket: tessera.Ticket{ID: "k-1", Number: 7, URL: "https://tickets.example.org/tickets/7"}}
}

func TestACommandGetsThePayloadOnItsInputAndAMinimalEnvironment(t *testing.T) {
	t.Setenv("TESSERA_TOKEN", "canary")
	out := filepath.Join(t.TempDir(), "out")
	c := allowing(t, map[string]string{"tell": "{ cat; echo; env | grep -v '^PWD=\\|^_=\\|^SHLVL=\\|^OLDPWD=' | sort; } > " + out})
	payload := `{"command": "tell", "subject": "It leaks"}`
	if err := c.run(t.Context(), delivery(payload)); err != nil {
		t.Fatal(err)
	}
	want := payload + "\nPATH=" + os.Getenv("PATH") + "\nTESSERA_ATTEMPT=2\nTESSERA_DELIVERY_ID=d-1\nTESSERA_TICKET_ID=k-1\n" +
		"TESSERA_TICKET_NUMBER=7\nTESSERA_TICKET_URL=https://tickets.example.org/tickets/7\nTESSERA_TRANSACTION_ID=t-1\n"
	if got, _ := os.ReadFile(out); string(got) != want {
		t.Errorf("%s", got)
	}
}

func TestTheExitStatusDecidesTheOutcome(t *testing.T) {
	c := allowing(t, map[string]string{
		"well": "exit 0", "later": "exit 75", "never": "exit 1", "dies": "kill -9 $$", "deaf": "exec <&-; exit 0",
	})
	gone := allowing(t, map[string]string{"gone": ""})
	if err := os.Remove(gone.commands["gone"]); err != nil {
		t.Fatal(err)
	}
	c.commands["gone"] = gone.commands["gone"]
	given := fmt.Sprintf("%T", tessera.Permanent(errors.New("")))
	for name, want := range map[string]string{"well": "done", "deaf": "done", "later": "again", "gone": "again", "never": "given up", "dies": "given up"} {
		long := strings.Repeat("x", 100_000)
		err := c.run(t.Context(), delivery(fmt.Sprintf(`{"command": %q, "more": %q}`, name, long)))
		got := "again"
		if err == nil {
			got = "done"
		} else if fmt.Sprintf("%T", err) == given {
			got = "given up"
		}
		if got != want {
			t.Errorf("%s: %s: %v", name, got, err)
		}
	}
}

func TestOnlyAllowedCommandsRun(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	c := allowing(t, map[string]string{"tell": `echo "$@" > ` + out})
	for _, payload := range []string{
		`{}`, `{"command": "sh"}`, `{"command": "/bin/sh"}`, `{"command": "../tell"}`, `{"command": ""}`, `no JSON`,
		`{"command": "tell", "arguments": ["x"]}`,
	} {
		if err := c.run(t.Context(), delivery(payload)); err == nil {
			t.Error(payload)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("it ran")
	}
	c.withArguments = true
	if err := c.run(t.Context(), delivery(`{"command": "tell", "arguments": ["a b", "$HOME"]}`)); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(out); string(got) != "a b $HOME\n" {
		t.Errorf("%s", got)
	}
}

func TestAnAllowedCommandIsAnAbsoluteExecutablePathWithAUniqueName(t *testing.T) {
	c := allowing(t, map[string]string{"tell": ""})
	other := allowing(t, map[string]string{"tell": ""}).commands["tell"]
	for _, path := range []string{"tell", "./tell", "", "/nowhere/tool", os.DevNull, other} {
		if err := c.allow(path); err == nil {
			t.Error(path)
		}
	}
}

func TestTheSchemaListsTheCommandsAndHasArgumentsIfAllowed(t *testing.T) {
	c := allowing(t, map[string]string{"b": "", "a": ""})
	if got := c.schema(); got != `{"properties":{"arguments":false,"command":{"enum":["a","b"]}},"required":["command"],"type":"object"}` {
		t.Error(got)
	}
	c.withArguments = true
	if got := c.schema(); !strings.Contains(got, `"arguments":{"items":{"type":"string"},"maxItems":100,"type":"array"}`) {
		t.Error(got)
	}
}

func TestACancelledCommandIsKilledWithItsChildren(t *testing.T) {
	out := filepath.Join(t.TempDir(), "pid")
	c := allowing(t, map[string]string{"hang": "sleep 1000 & echo $! > " + out + ".new; mv " + out + ".new " + out + "; wait"})
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx, delivery(`{"command": "hang"}`)) }()
	pid := until(t, "timed out waiting for the command to start", func() (string, bool) {
		held, err := os.ReadFile(out)
		return strings.TrimSpace(string(held)), err == nil
	})
	cancel(tessera.ErrStopping)
	if err := <-ended; !errors.Is(err, tessera.ErrStopping) {
		t.Error(err)
	}
	until(t, "timed out waiting for the child process to end", func() (string, bool) {
		held, err := os.ReadFile("/proc/" + pid + "/stat")
		_, state, _ := strings.Cut(string(held), ") ")
		return "", err != nil || strings.HasPrefix(state, "Z")
	})
}

func TestOnlyTheBeginningOfTheOutputIsKept(t *testing.T) {
	var kept head
	for range 100 {
		if n, err := kept.Write([]byte(strings.Repeat("x", 999))); n != 999 || err != nil {
			t.Fatal(n, err)
		}
	}
	if kept.Len() != tessera.ResponseMax {
		t.Error(kept.Len())
	}
}

func until(t *testing.T, what string, look func() (string, bool)) string {
	t.Helper()
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if seen, ok := look(); ok {
			return seen
		}
	}
	t.Fatal(what)
	return ""
}
