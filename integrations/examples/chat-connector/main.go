// Command chat-connector posts messages from scrips to a chat, through an incoming webhook of Slack, Mattermost or a compatible server.
//
//	CHAT_URL_FILE=url TESSERA_TOKEN_FILE=token chat-connector --threads threads.json
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/template"
	"time"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const schema = `{"type": "object", "required": ["text"], "additionalProperties": false, "properties": {
	"text": {"type": "string", "minLength": 1, "description": "The message; markup and mentions are shown literally"},
	"channel": {"type": "string", "description": "The channel, if not the webhook's own"},
	"username": {"type": "string", "description": "The name of the sender"},
	"icon_emoji": {"type": "string", "description": "The icon of the sender, as in :tea:"}}}`

// plain escapes text so that it cannot mention everybody or contain a disguised link.
var plain = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;",
	"@channel", "@\u200bchannel", "@all", "@\u200ball", "@here", "@\u200bhere")

// message is the message to post; the first four fields are the payload.
type message struct {
	Text      string            `json:"text"`
	Channel   string            `json:"channel,omitempty"`
	Username  string            `json:"username,omitempty"`
	IconEmoji string            `json:"icon_emoji,omitempty"`
	ThreadTS  string            `json:"thread_ts,omitempty"` // Slack's
	RootID    string            `json:"root_id,omitempty"`   // Mattermost's
	Thread    map[string]string `json:"thread,omitempty"`    // Google Chat's
}

// connector is the handler with its settings.
type connector struct {
	url, token string
	// mask hides the URL and the token in responses and errors, which Tessera stores.
	mask      *tessera.Mask
	text      *template.Template
	threadKey bool
	threads   *threads
}

func main() {
	text := flag.String("template", "<{{.Ticket.URL}}|#{{.Ticket.Number}}> {{.Text}}", "the message to post, as a Go `TEMPLATE`")
	file := flag.String("threads", "", "a `FILE` that stores the thread of each ticket; without it, threads are forgotten at exit")
	key := flag.Bool("thread-key", false, "send a thread key derived from the ticket, for Google Chat")
	listen := flag.String("listen", "", "serve /healthz, /readyz and /metrics at `HOST:PORT`")
	flag.Parse()
	known, err := open(*file)
	c := connector{url: secret("CHAT_URL"), token: secret("CHAT_TOKEN"), threadKey: *key, threads: known}
	c.mask = maskOf(c.url, c.token)
	if err == nil {
		c.text, err = template.New("--template").Parse(*text)
	}
	if err == nil && c.url == "" {
		err = errors.New("no URL to post to; set CHAT_URL or CHAT_URL_FILE")
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		// One at a time: chat servers accept about one message per second, and a ticket's first message starts the thread of the next.
		err = tessera.Run(ctx, tessera.Config{Address: os.Getenv("TESSERA_ADDRESS"), Token: secret("TESSERA_TOKEN"), Kind: "chat",
			Schema: schema, Software: "chat-connector 1.0", Concurrency: 1, Timeout: 30 * time.Second, Listen: *listen}, c.deliver)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// client follows no redirects: they would send the message to another address, and the URL to it in the header Referer.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// maskOf returns a mask for the URL, whose path is its secret, and the token.
func maskOf(address, token string) *tessera.Mask {
	secrets := map[string]string{"CHAT_TOKEN": token}
	if parsed, err := url.Parse(address); err == nil {
		secrets["CHAT_URL"] = strings.Trim(parsed.RequestURI(), "/")
		secrets["CHAT_URL user"] = parsed.User.String()
	}
	return tessera.NewMask(secrets)
}

// deliver posts one message.
func (c *connector) deliver(ctx context.Context, delivery *tessera.Delivery) error {
	var m message
	if err := delivery.Decode(&m); err != nil {
		return err
	}
	text, place := new(strings.Builder), fmt.Sprintf("%d %s", delivery.Ticket.Number, m.Channel)
	data := map[string]any{"Text": plain.Replace(m.Text), "Ticket": delivery.Ticket}
	if err := c.text.Execute(text, data); err != nil {
		return tessera.Permanent(err)
	}
	m.Text, m.ThreadTS, m.RootID = text.String(), c.threads.of(place).TS, c.threads.of(place).ID
	if c.threadKey {
		m.Thread = map[string]string{"threadKey": fmt.Sprint("tessera-", delivery.Ticket.Number)}
	}
	body, err := json.Marshal(m)
	if err != nil {
		return tessera.Permanent(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return tessera.Permanent(errors.New("CHAT_URL is not a valid URL"))
	}
	request.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := client.Do(request)
	if err != nil {
		if broken := new(url.Error); errors.As(err, &broken) {
			err = broken.Err // The outer error contains the URL, which is a secret.
		}
		delivery.Report(tessera.Report{Health: tesserav1.Health_HEALTH_FAILS})
		return errors.New(c.mask.Text(err.Error()))
	}
	defer func() { _ = response.Body.Close() }()
	return c.judge(delivery, place, response)
}

// secret returns the value of a variable, or the content of the file that the variable NAME_FILE names.
func secret(name string) string {
	if file := os.Getenv(name + "_FILE"); file != "" {
		held, err := os.ReadFile(file)
		if err != nil {
			log.Fatal(err)
		}
		return strings.TrimSpace(string(held))
	}
	return os.Getenv(name)
}
