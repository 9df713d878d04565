package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

func TestTheChatConnectorConforms(t *testing.T) {
	fill := func(delivery *tesserav1.Delivery, _ string) {
		delivery.Payload = &tesserav1.Delivery_Json{Json: fmt.Sprintf(`{"text": "of", "channel": %q}`, delivery.GetId())}
	}
	id := func(_ *http.Request, body []byte) string {
		var posted message
		_ = json.Unmarshal(body, &posted)
		return posted.Channel
	}
	receiver := connectortest.NewHTTPReceiver(t, fill, id)
	connectortest.Run(t, connectortest.Connector{
		Kind: "chat", Receiver: receiver,
		Start: func(ctx context.Context, config tessera.Config) error {
			known, err := open("")
			if err != nil {
				return err
			}
			c := connector{url: receiver.URL, mask: maskOf(receiver.URL, ""), text: template.Must(template.New("").Parse("{{.Text}}")), threads: known}
			config.Schema = schema
			return tessera.Run(ctx, config, c.deliver)
		},
	})
}

// chat is a server that records the posted messages and returns a configured response.
type chat struct {
	*httptest.Server
	posted []map[string]any
	tokens []string

	status     int
	retryAfter string
	answer     string
}

func newChat(t *testing.T) *chat {
	t.Helper()
	c := &chat{status: http.StatusOK, answer: "ok"}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message := map[string]any{}
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil || r.Method != http.MethodPost || r.URL.Path != "/hooks/canary" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		c.posted, c.tokens = append(c.posted, message), append(c.tokens, r.Header.Get("Authorization"))
		if c.retryAfter != "" {
			w.Header().Set("Retry-After", c.retryAfter)
		}
		w.WriteHeader(c.status)
		_, _ = io.WriteString(w, c.answer)
	}))
	t.Cleanup(c.Close)
	return c
}

// poster returns a connector for this chat that stores its threads in a file.
func poster(t *testing.T, c *chat, file string) *connector {
	t.Helper()
	known, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	text := template.Must(template.New("").Parse("<{{.Ticket.URL}}|#{{.Ticket.Number}}> {{.Text}}"))
	url := c.URL + "/hooks/canary"
	return &connector{url: url, mask: maskOf(url, "xoxb-4711"), text: text, threads: known}
}

func delivery(number int64, payload string) *tessera.Delivery {
	url := fmt.Sprint("https://tickets.example.org/tickets/", number)
	return &tessera.Delivery{ID: "d", Kind: "chat", JSON: []byte(payload), Ticket: tessera.Ticket{Number: number, URL: url}}
}

func TestAMessageIsRenderedByTheTemplateAndCannotMentionAnybody(t *testing.T) {
	c := newChat(t)
	p := poster(t, c, "")
	p.token = "xoxb"
	payload := `{"text": "A & <!channel> @here", "channel": "#desk", "username": "Desk", "icon_emoji": ":tea:"}`
	if err := p.deliver(t.Context(), delivery(7, payload)); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"text":    "<https://tickets.example.org/tickets/7|#7> A &amp; &lt;!channel&gt; @\u200bhere",
		"channel": "#desk", "username": "Desk", "icon_emoji": ":tea:",
	}
	if got := fmt.Sprint(c.posted); got != fmt.Sprint([]any{want}) || c.tokens[0] != "Bearer xoxb" {
		t.Errorf("%s %v", got, c.tokens)
	}
}

func TestTheNextMessageOfATicketRepliesToItsFirstAlsoAfterARestart(t *testing.T) {
	for said, member := range map[string]string{
		`{"ok": true, "ts": "17.1"}`: "thread_ts", `{"id": "17.1"}`: "root_id", "ok": "", "{}": "",
	} {
		c, file := newChat(t), filepath.Join(t.TempDir(), "threads.json")
		c.answer = said
		for _, one := range []*tessera.Delivery{
			delivery(1, `{"text": "first"}`), delivery(1, `{"text": "second"}`), delivery(2, `{"text": "of another"}`),
			delivery(1, `{"text": "elsewhere", "channel": "#else"}`),
		} {
			if err := poster(t, c, file).deliver(t.Context(), one); err != nil {
				t.Fatal(err)
			}
		}
		for at, message := range c.posted {
			_, ts := message["thread_ts"]
			_, id := message["root_id"]
			isReply := at == 1 && member != ""
			if isReply && message[member] != "17.1" || ts != (isReply && member == "thread_ts") || id != (isReply && member == "root_id") {
				t.Errorf("%s: message %d: %v", said, at, message)
			}
		}
	}
}

func TestAThreadCanHaveAKey(t *testing.T) {
	c := newChat(t)
	p := poster(t, c, "")
	p.threadKey = true
	if err := p.deliver(t.Context(), delivery(7, `{"text": "x"}`)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.posted[0]["thread"]); got != "map[threadKey:tessera-7]" {
		t.Error(got)
	}
}

func TestTheNumberOfThreadsIsLimitedAndAnInvalidFileIsReported(t *testing.T) {
	known, _ := open("")
	for number := range threadsMax + 2 {
		known.keep(fmt.Sprint(number), root{TS: "x"})
	}
	if len(known.Roots) != threadsMax || known.of("1") != (root{}) || known.of("2") == (root{}) {
		t.Error(len(known.Roots))
	}
	file := filepath.Join(t.TempDir(), "threads.json")
	if err := os.WriteFile(file, []byte("no JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Error(err)
	}
}

func TestTheResponseOfTheChatDecidesTheOutcome(t *testing.T) {
	plain := errors.New("")
	for _, one := range []struct {
		status     int
		retryAfter string
		answer     string
		want       error
	}{
		{200, "", "ok", nil},
		{204, "", "", nil},
		{200, "", `{"ok": false, "error": "channel_not_found"}`, tessera.Permanent(plain)},
		{200, "", `{"ok": false, "error": "fatal_error"}`, plain},
		{400, "", "invalid_payload", tessera.Permanent(plain)},
		{403, "", "action_prohibited", tessera.Permanent(plain)},
		{404, "", "no_service", tessera.Permanent(plain)},
		{410, "", "channel_is_archived", tessera.Permanent(plain)},
		{400, "", `{"id": "web.incoming_webhook.channel.app_error"}`, tessera.Permanent(plain)},
		{400, "", "something else", plain},
		{302, "", "no_service", plain},
		{429, "7", "rate_limited", tessera.RetryAfter(7, plain)},
		{429, "", "channel_not_found", plain},
		{503, "7", "", tessera.RetryAfter(7, plain)},
		{500, "", "channel_not_found", plain},
	} {
		c := newChat(t)
		c.status, c.retryAfter, c.answer = one.status, one.retryAfter, one.answer
		got := poster(t, c, "").deliver(t.Context(), delivery(7, `{"text": "x"}`))
		if got == nil && one.want == nil {
			continue
		}
		// The SDK distinguishes errors by types that it does not export.
		decision := func(err error) string { return strings.Replace(fmt.Sprintf("%T", err), "*fmt.wrapError", "plain", 1) }
		isPlain := decision(got) == decision(fmt.Errorf("")) || decision(got) == decision(plain)
		if one.want == plain && !isPlain || one.want != plain && decision(got) != decision(one.want) {
			t.Errorf("%d %s: %T %v", one.status, one.answer, got, got)
		}
	}
}

func TestErrorsDoNotContainTheURL(t *testing.T) {
	c := newChat(t)
	p := poster(t, c, "")
	c.Close()
	if err := p.deliver(t.Context(), delivery(7, `{"text": "x"}`)); err == nil || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
	p.url = "://canary"
	if err := p.deliver(t.Context(), delivery(7, `{"text": "x"}`)); err == nil || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
}

func TestTheSchemaIsJSON(t *testing.T) {
	if !json.Valid([]byte(schema)) {
		t.Error(schema)
	}
}

func TestARedirectIsNotFollowedAndNeverSeesTheURL(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		asked := 0
		target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			asked++
			t.Errorf("%d: %s with Referer %q", status, r.URL, r.Header.Get("Referer"))
		}))
		c := newChat(t)
		from := httptest.NewServer(http.RedirectHandler(target.URL+"/elsewhere", status))
		p := poster(t, c, "")
		p.url = from.URL + "/hooks/canary"
		err := p.deliver(t.Context(), delivery(7, `{"text": "x"}`))
		if err == nil || asked != 0 || !strings.Contains(err.Error(), "redirects are not followed") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%d: %v", status, err)
		}
		from.Close()
		target.Close()
	}
}

func TestResponsesThatContainTheURLOrTheTokenAreMasked(t *testing.T) {
	for _, said := range []string{
		"no hook /hooks/canary here", "NO HOOK HOOKS/CANARY", "wrong token xoxb-4711", "wrong token eG94Yi00NzEx", "1174-bxox",
	} {
		c := newChat(t)
		c.status, c.answer = 403, said
		p := poster(t, c, "")
		p.token = "xoxb-4711"
		err := p.deliver(t.Context(), delivery(7, `{"text": "x"}`))
		if err == nil || !strings.Contains(err.Error(), "(secret CHAT_") {
			t.Errorf("%s: %v", said, err)
		}
	}
}
