// Command email-connector delivers mail for Tessera through a mail server, with the same results as Tessera's own workers.
// Use it if the mail server can only be reached from another machine.
//
//	email-connector --address 127.0.0.1:8081 --token-file token --smtp-url-file url
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/internal/cli"
	"tessera.dev/integrations/internal/mail"
	"tessera.dev/integrations/pkg/tessera"
)

func main() {
	cli.Main(connector())
}

func connector() cli.Connector {
	var server, hello string
	return cli.Connector{
		Name: "email-connector", Kind: "email",
		About:       "Delivers mail for Tessera through a mail server.",
		Concurrency: 8,
		Timeout:     mail.MaxDuration,
		Options: []cli.Option{
			cli.Secret(&server, "TESSERA_SMTP_URL", cli.Option{Flag: "smtp-url-file", Env: "TESSERA_SMTP_URL_FILE",
				Usage: "A file that contains the URL of the mail server: " +
					"smtp://[user:password@]host[:port][?tls=required|opportunistic|none] or smtps://…. The default is to encrypt if " +
					"the server offers it. With tls=required, with smtps, and for a password that is sent to another machine, " +
					"encryption and a valid certificate are required."}),
			cli.Text(&hello, cli.Option{Flag: "hello", Env: "TESSERA_SMTP_HELLO", Value: "NAME",
				Usage: "The name to send in EHLO: the name of this machine, or the domain that sends the mail. Default: the host of " +
					"Tessera's base_url, as in Tessera itself."}),
		},
		Open: func() (cli.Transport, error) { return open(server, hello) },
	}
}

// open returns a transport to a mail server. If hello is empty, EHLO sends the host of the ticket's URL.
func open(server, hello string) (cli.Transport, error) {
	if server == "" {
		return cli.Transport{}, errors.New("no mail server: set --smtp-url-file, TESSERA_SMTP_URL_FILE or TESSERA_SMTP_URL")
	}
	transport, err := mail.New(server)
	if err != nil {
		return cli.Transport{}, fmt.Errorf("the mail server's URL %w", err)
	}
	send := func(ctx context.Context, delivery *tessera.Delivery) attempt.Attempt {
		if delivery.Email == nil {
			return attempt.New(attempt.Permanent, "this delivery is not an email")
		}
		return transport.Send(ctx, cmp.Or(hello, hostOf(delivery.Ticket.URL)), delivery.Email)
	}
	return cli.Transport{Send: send, Close: transport.Close, Through: transport.String()}, nil
}

// hostOf returns the host of a URL; empty if the URL is invalid.
func hostOf(text string) string {
	parsed, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return parsed.Hostname()
}
