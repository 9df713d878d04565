// Command email-connector delivers the mail of a Tessera through a mail server, with the same result as Tessera's own
// workers. Use it where the mail server can be reached from another machine only.
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
		About:       "Delivers the mail of a Tessera through a mail server.",
		Concurrency: 8,
		Timeout:     mail.MaxDuration,
		Options: []cli.Option{
			cli.Secret(&server, "TESSERA_SMTP_URL", cli.Option{Flag: "smtp-url-file", Env: "TESSERA_SMTP_URL_FILE",
				Usage: "A file that holds the mail server's URL: " +
					"smtp://[user:password@]host[:port][?tls=required|opportunistic|none] or smtps://…. Encrypted when the server " +
					"offers it; tls=required, smtps, and a password that goes to another machine insist on it and on the certificate."}),
			cli.Text(&hello, cli.Option{Flag: "hello", Env: "TESSERA_SMTP_HELLO", Value: "NAME",
				Usage: "The name to give in EHLO: this machine's, or the domain that mail comes from. Not given: the host of " +
					"Tessera's base_url, as Tessera itself does."}),
		},
		Open: func() (cli.Transport, error) { return open(server, hello) },
	}
}

// open makes ready to send through a mail server, to which it says hello by the name of Tessera's host unless it has another.
func open(server, hello string) (cli.Transport, error) {
	if server == "" {
		return cli.Transport{}, errors.New("neither TESSERA_SMTP_URL nor --smtp-url-file nor TESSERA_SMTP_URL_FILE names the mail server")
	}
	transport, err := mail.New(server)
	if err != nil {
		return cli.Transport{}, fmt.Errorf("the mail server's URL %w", err)
	}
	send := func(ctx context.Context, delivery *tessera.Delivery) attempt.Attempt {
		if delivery.Email == nil {
			return attempt.New(attempt.Permanent, "this delivery is no mail")
		}
		return transport.Send(ctx, cmp.Or(hello, hostOf(delivery.Ticket.URL)), delivery.Email)
	}
	return cli.Transport{Send: send, Close: transport.Close, Through: transport.String()}, nil
}

// hostOf returns the host of a URL, which for that of a ticket is where people see Tessera.
func hostOf(text string) string {
	parsed, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return parsed.Hostname()
}
