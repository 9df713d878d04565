// Command chat-connector posts what scrips write into a chat: to an incoming webhook as Slack and Mattermost have them.
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
	"text": {"type": "string", "minLength": 1, "description": "What is said; what would be a mark of the chat is shown as it is"},
	"channel": {"type": "string", "description": "Where, if not where the webhook leads"},
	"username": {"type": "string", "description": "Who says it"},
	"icon_emoji": {"type": "string", "description": "Its picture, as in :tea:"}}}`

// plain takes from what people write that it calls everybody, or is a link that looks like another.
var plain = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;",
	"@channel", "@\u200bchannel", "@all", "@\u200ball", "@here", "@\u200bhere")

// message is what is posted; the first four are the payload.
type message struct {
	Text      string            `json:"text"`
	Channel   string            `json:"channel,omitempty"`
	Username  string            `json:"username,omitempty"`
	IconEmoji string            `json:"icon_emoji,omitempty"`
	ThreadTS  string            `json:"thread_ts,omitempty"` // Slack's
	RootID    string            `json:"root_id,omitempty"`   // Mattermost's
	Thread    map[string]string `json:"thread,omitempty"`    // Google Chat's
}

// connector is the handler with what it needs.
type connector struct {
	url, token string
	text       *template.Template
	threadKey  bool
	threads    *threads
}

func main() {
	text := flag.String("template", "<{{.Ticket.URL}}|#{{.Ticket.Number}}> {{.Text}}", "what is posted, as a `TEMPLATE` of Go")
	file := flag.String("threads", "", "a `FILE` that keeps which thread is whose ticket's; without it, threads end with the process")
	key := flag.Bool("thread-key", false, "thread by a key of ours, as Google Chat does")
	listen := flag.String("listen", "", "`HOST:PORT` for /healthz and /metrics")
	flag.Parse()
	known, err := open(*file)
	c := connector{url: secret("CHAT_URL"), token: secret("CHAT_TOKEN"), threadKey: *key, threads: known}
	if err == nil {
		c.text, err = template.New("--template").Parse(*text)
	}
	if err == nil && c.url == "" {
		err = errors.New("neither CHAT_URL nor CHAT_URL_FILE says where to post")
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		// One at a time: chats take about one message a second, and the first of a ticket makes the thread of the next.
		err = tessera.Run(ctx, tessera.Config{Address: os.Getenv("TESSERA_ADDRESS"), Token: secret("TESSERA_TOKEN"), Kind: "chat",
			Schema: schema, Software: "chat-connector 1.0", Concurrency: 1, Timeout: 30 * time.Second, Listen: *listen}, c.deliver)
	}
	if err != nil {
		log.Fatal(err)
	}
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
		return tessera.Permanent(errors.New("CHAT_URL is no URL"))
	}
	request.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		if broken := new(url.Error); errors.As(err, &broken) {
			err = broken.Err // The words around it have the URL, which is a secret.
		}
		delivery.Report(tessera.Report{Health: tesserav1.Health_HEALTH_FAILS})
		return err
	}
	defer func() { _ = response.Body.Close() }()
	return c.judge(delivery, place, response)
}

// secret is what a variable holds, or the file that the variable of the same name with _FILE names.
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
