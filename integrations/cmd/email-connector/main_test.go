package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"tessera.dev/integrations/internal/cli"
	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// mailServer accepts mail, rejects it temporarily, or does not respond. The local part of the recipient is the delivery's id.
type mailServer struct {
	connectortest.Gate
	listener net.Listener
}

func serve(t *testing.T) *mailServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &mailServer{listener: listener}
	t.Cleanup(func() {
		server.Behave(connectortest.Accepts)
		_ = listener.Close()
	})
	go func() {
		for socket, err := listener.Accept(); err == nil; socket, err = listener.Accept() {
			go server.talk(socket)
		}
	}()
	return server
}

// Fill implements connectortest.Receiver.
func (s *mailServer) Fill(delivery *tesserav1.Delivery) {
	delivery.Payload = &tesserav1.Delivery_Email{Email: &tesserav1.EmailMessage{
		Sender: "desk@example.com", Recipients: []string{delivery.GetId() + "@example.org"}, Message: []byte("Subject: hello\r\n\r\nhello\r\n"),
	}}
}

func (s *mailServer) talk(socket net.Conn) {
	defer func() { _ = socket.Close() }()
	// The goroutine notices the end of the connection while a message waits for its reply.
	ctx, end := context.WithCancel(context.Background())
	defer end()
	lines := make(chan string)
	go func() {
		defer end()
		defer close(lines)
		for scanner := bufio.NewScanner(socket); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	id, isMessage, next := "", false, "220 mx.example.org"
	for {
		if _, err := io.WriteString(socket, next+"\r\n"); err != nil {
			return
		}
		line, isOpen := <-lines
		for ; isOpen && isMessage && line != "."; line, isOpen = <-lines {
		}
		if !isOpen {
			return
		}
		isMessage, next = line == "DATA", "250 ok"
		if rest, isRecipient := strings.CutPrefix(line, "RCPT TO:<"); isRecipient {
			id, _, _ = strings.Cut(rest, "@")
		}
		switch {
		case isMessage:
			next = "354 go on"
		case line == ".":
			switch s.Arrive(ctx, id) {
			case connectortest.Refuses:
				next = "450 4.2.0 not now"
			case connectortest.Hangs:
				return
			}
		}
	}
}

func TestTheEmailConnectorConforms(t *testing.T) {
	server := serve(t)
	connectortest.Run(t, connectortest.Connector{
		Kind: "email", Receiver: server,
		Start: func(ctx context.Context, config tessera.Config) error {
			transport, err := open(fmt.Sprintf("smtp://%s", server.listener.Addr()), "")
			if err != nil {
				return err
			}
			defer transport.Close()
			return tessera.Run(ctx, config, transport.Handler())
		},
	})
}

func TestTheMailServerIsRequiredAndItsPasswordIsNotShown(t *testing.T) {
	for url, want := range map[string]string{
		"":                          "no mail server: set --smtp-url-file, TESSERA_SMTP_URL_FILE or TESSERA_SMTP_URL",
		"http://u:canary@mail":      "the mail server's URL begins with http:; use smtp://host:port or smtps://host:port",
		"smtp://:canary@mail":       "the mail server's URL needs a user and a password, or neither",
		"smtp://u:canary@mail/path": "the mail server's URL contains more than a host and a port",
	} {
		env := map[string]string{"TESSERA_TOKEN": "tsc_canary", "TESSERA_SMTP_URL": url}
		var stdout, stderr strings.Builder
		code := cli.Run(t.Context(), connector(), nil, func(name string) string { return env[name] }, &stdout, &stderr)
		if code != 2 || !strings.Contains(stderr.String(), want) || strings.Contains(stderr.String(), "canary") {
			t.Errorf("%q: %d %s", url, code, stderr.String())
		}
	}
}

func TestEHLOSendsTheHostOfTheTicketURL(t *testing.T) {
	for url, want := range map[string]string{
		"https://desk.example.com/t/7": "desk.example.com", "http://127.0.0.1:8080/t/7": "127.0.0.1", "http://[::1]:8080/": "::1", "": "", "%": "",
	} {
		if got := hostOf(url); got != want {
			t.Errorf("%q: %q", url, got)
		}
	}
}
