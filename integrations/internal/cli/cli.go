// Package cli contains the common part of the connectors that ship with Tessera: settings, start and stop.
package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// Version is the version of Tessera.
const Version = "0.1.0"

const (
	// defaultAddress is the default address of Tessera's gRPC server.
	defaultAddress = "127.0.0.1:8081"
	// system is the value of --ca for the certificate authorities that the machine trusts.
	system = "system"
)

// A Connector describes one connector.
type Connector struct {
	// Name is the name of the program, Kind the kind of deliveries.
	Name, Kind string
	// About is a paragraph for the help.
	About string
	// Concurrency is the default for --concurrency, and PerEndpoint the maximum number of concurrent attempts at one
	// endpoint; 0 means no limit.
	Concurrency, PerEndpoint int
	// Timeout is the maximum duration of one attempt, and Drain how long a stop waits for attempts; 0 means the default of
	// the SDK.
	Timeout, Drain time.Duration
	// Options are the options that only this connector has.
	Options []Option
	// Open opens the transport after the options have been parsed.
	Open func() (Transport, error)
}

// A Transport makes attempts.
type Transport struct {
	Send  func(context.Context, *tessera.Delivery) attempt.Attempt
	Close func()
	// Through describes the transport for the log, without secrets.
	Through string
}

// Main runs a connector until SIGINT or SIGTERM, and exits. A second signal ends the process immediately.
func Main(connector Connector) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, connector, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// Run runs a connector until ctx ends, and returns the exit status: 0 for success, 1 for a failure, 2 for an invalid setting.
func Run(ctx context.Context, connector Connector, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	s := settings{}
	options := append(s.options(connector), connector.Options...)
	err := parse(options, args, getenv)
	if errors.Is(err, flag.ErrHelp) {
		help(stdout, connector.Name, connector.About, options)
		return 0
	}
	var config tessera.Config
	var transport Transport
	if err == nil {
		config, err = s.config(connector, stderr)
	}
	if err == nil {
		transport, err = connector.Open()
	}
	fail := func(status int) int {
		_, _ = fmt.Fprintf(stderr, "%s: %v\nTry %s --help.\n", connector.Name, err, connector.Name)
		return status
	}
	if err != nil {
		return fail(2)
	}
	defer transport.Close()
	config.Logger.Info("starting the connector", "kind", config.Kind, "address", config.Address, "concurrency", config.Concurrency,
		"through", transport.Through)
	if err = tessera.Run(ctx, config, transport.Handler()); err != nil {
		return fail(1)
	}
	return 0
}

// Handler returns a handler for the SDK that makes attempts with the transport.
func (t Transport) Handler() tessera.Handler {
	return func(ctx context.Context, delivery *tessera.Delivery) error {
		made := t.Send(ctx, delivery)
		delivery.Report(tessera.Report{
			StatusCode: made.StatusCode, Detail: made.Detail, Response: made.Response, Recipients: made.Recipients, Health: made.Health,
		})
		isCalledOff := errors.Is(ctx.Err(), context.Canceled)
		switch err := errors.New(made.Detail); {
		case made.Outcome == attempt.Delivered:
			return nil
		case isCalledOff && hasFinal(made.Recipients):
			// Recipients who have the mail must not get it again. The outcome is derived from the recipients, not from this nil.
			return nil
		case isCalledOff:
			return context.Cause(ctx)
		case made.Outcome == attempt.Permanent:
			return tessera.Permanent(err)
		case made.Wait > 0:
			return tessera.RetryAfter(made.Wait, err)
		default:
			return err
		}
	}
}

// hasFinal reports whether there is a final reply for any recipient.
func hasFinal(recipients []*tesserav1.RecipientAnswer) bool {
	return slices.ContainsFunc(recipients, func(answer *tesserav1.RecipientAnswer) bool { return answer.GetOutcome() != attempt.Retry })
}

// settings are the settings that every connector has.
type settings struct {
	address, token, ca, cert, key, listen string
	concurrency                           int
	isJSON                                bool
}

func (s *settings) options(connector Connector) []Option {
	return []Option{
		Text(&s.address, Option{Flag: "address", Env: "TESSERA_ADDRESS", Value: "HOST:PORT", Default: defaultAddress,
			Usage: "The address where Tessera listens for connectors (its setting grpc.listen or grpc.socket): host:port or unix:///path."}),
		Secret(&s.token, "TESSERA_TOKEN", Option{Flag: "token-file", Env: "TESSERA_TOKEN_FILE",
			Usage: "A file that contains the token printed by \"tessera connector add NAME --kind " + connector.Kind + "\"."}),
		Text(&s.ca, Option{Flag: "ca", Env: "TESSERA_CA", Value: "FILE",
			Usage: "Use TLS, and trust servers whose certificate was signed by an authority in this PEM file. \"" + system +
				"\" stands for the authorities that this machine trusts. Without this flag the connection is not encrypted, which " +
				"is only allowed to a server on the same machine."}),
		Text(&s.cert, Option{Flag: "cert", Env: "TESSERA_CERT", Value: "FILE",
			Usage: "The client certificate of this connector, as PEM."}),
		Text(&s.key, Option{Flag: "key", Env: "TESSERA_KEY", Value: "FILE", Usage: "The private key of the client certificate, as PEM."}),
		{Flag: "concurrency", Env: "TESSERA_CONCURRENCY", Value: "N", Default: strconv.Itoa(connector.Concurrency),
			Usage: fmt.Sprintf("The maximum number of deliveries to process at once, 1 to %d.", tessera.ConcurrencyMax), Parse: s.setConcurrency},
		Text(&s.listen, Option{Flag: "listen", Env: "TESSERA_LISTEN", Value: "HOST:PORT",
			Usage: "The address where to serve GET /healthz, GET /readyz and GET /metrics. Without it they are not served."}),
		{Flag: "log-format", Env: "TESSERA_LOG_FORMAT", Value: "FORMAT", Default: "text",
			Usage: "The format of the log on standard error: text or json.", Parse: s.setLogFormat},
	}
}

func (s *settings) setConcurrency(value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > tessera.ConcurrencyMax {
		return fmt.Errorf("%q is not a number from 1 to %d", value, tessera.ConcurrencyMax)
	}
	s.concurrency = n
	return nil
}

func (s *settings) setLogFormat(value string) error {
	if s.isJSON = value == "json"; !s.isJSON && value != "text" {
		return fmt.Errorf("%q is neither text nor json", value)
	}
	return nil
}

// config returns the configuration for the SDK.
func (s *settings) config(connector Connector, stderr io.Writer) (tessera.Config, error) {
	if s.token == "" {
		return tessera.Config{}, fmt.Errorf("no token: set --token-file, TESSERA_TOKEN_FILE or TESSERA_TOKEN; "+
			"\"tessera connector add NAME --kind %s\" creates one", connector.Kind)
	}
	secure, err := s.tls()
	if err != nil {
		return tessera.Config{}, err
	}
	logs := slog.Handler(slog.NewTextHandler(stderr, nil))
	if s.isJSON {
		logs = slog.NewJSONHandler(stderr, nil)
	}
	return tessera.Config{
		Address: s.address, Token: s.token, TLS: secure, Kind: connector.Kind, Software: connector.Name + "/" + Version,
		Concurrency: s.concurrency, PerEndpoint: min(connector.PerEndpoint, s.concurrency), Timeout: connector.Timeout, Drain: connector.Drain,
		Logger: slog.New(logs), Listen: s.listen,
	}, nil
}

// tls returns the configuration for TLS; nil if the connection is not to be encrypted.
func (s *settings) tls() (*tls.Config, error) {
	if (s.cert == "") != (s.key == "") {
		return nil, errors.New("--cert and --key must be used together")
	}
	if s.ca == "" {
		if s.cert != "" {
			return nil, errors.New("--cert requires --ca: without TLS the certificate is not used")
		}
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.ca != system {
		pem, err := os.ReadFile(s.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca: %s contains no certificate in PEM format", s.ca)
		}
	}
	if s.cert != "" {
		pair, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return nil, fmt.Errorf("--cert and --key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
