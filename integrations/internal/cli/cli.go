// Package cli is what the connectors that ship with Tessera have in common: how they are set up, and how they begin and end.
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

// Version is that of Tessera as a whole.
const Version = "0.1.0"

const (
	// defaultAddress is where Tessera's gRPC listens when neither side is told otherwise.
	defaultAddress = "127.0.0.1:8081"
	// system stands for the authorities that the machine believes.
	system = "system"
)

// A Connector is what sets one connector apart.
type Connector struct {
	// Name is that of the program, Kind what it delivers.
	Name, Kind string
	// About is a paragraph for the help.
	About string
	// Concurrency is how many deliveries it works on at once unless it is told otherwise, and PerEndpoint how many of these
	// may go to one endpoint; 0: no limit.
	Concurrency, PerEndpoint int
	// Timeout is how long one attempt may take, and Drain how long attempts have to end when the connector is to end; 0: as
	// long as the SDK gives them.
	Timeout, Drain time.Duration
	// Options are those that only it has.
	Options []Option
	// Open makes ready to send when all options are read.
	Open func() (Transport, error)
}

// A Transport makes attempts.
type Transport struct {
	Send  func(context.Context, *tessera.Delivery) attempt.Attempt
	Close func()
	// Through says for the log through what it sends, without a secret.
	Through string
}

// Main runs a connector until a signal asks it to end, and ends the process. A second signal does not wait.
func Main(connector Connector) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, connector, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// Run runs a connector until ctx ends, and returns the exit status: 0, 1 for what went wrong, 2 for what was set wrongly.
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
	config.Logger.Info("asking for deliveries", "kind", config.Kind, "address", config.Address, "concurrency", config.Concurrency,
		"through", transport.Through)
	if err = tessera.Run(ctx, config, transport.Handler()); err != nil {
		return fail(1)
	}
	return 0
}

// Handler hands what an attempt came to over to the SDK.
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
			// Whoever has the mail must not get it again. Their answers are the outcome, whatever is returned here.
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

// hasFinal tells whether a recipient need not be asked again.
func hasFinal(recipients []*tesserav1.RecipientAnswer) bool {
	return slices.ContainsFunc(recipients, func(answer *tesserav1.RecipientAnswer) bool { return answer.GetOutcome() != attempt.Retry })
}

// settings are those that every connector has.
type settings struct {
	address, token, ca, cert, key, listen string
	concurrency                           int
	isJSON                                bool
}

func (s *settings) options(connector Connector) []Option {
	return []Option{
		Text(&s.address, Option{Flag: "address", Env: "TESSERA_ADDRESS", Value: "HOST:PORT", Default: defaultAddress,
			Usage: "Where Tessera listens for connectors (its setting grpc.listen or grpc.socket), as host:port or unix:///path."}),
		Secret(&s.token, "TESSERA_TOKEN", Option{Flag: "token-file", Env: "TESSERA_TOKEN_FILE",
			Usage: "A file that holds the token that \"tessera connector add NAME --kind " + connector.Kind + "\" printed."}),
		Text(&s.ca, Option{Flag: "ca", Env: "TESSERA_CA", Value: "FILE",
			Usage: "Encrypt, and believe the server when an authority in this PEM file signed its certificate, or \"" + system +
				"\": one that this machine believes. Without it nothing is encrypted, which only works on one machine."}),
		Text(&s.cert, Option{Flag: "cert", Env: "TESSERA_CERT", Value: "FILE",
			Usage: "The certificate that this connector shows to the server, as PEM."}),
		Text(&s.key, Option{Flag: "key", Env: "TESSERA_KEY", Value: "FILE", Usage: "The key of that certificate, as PEM."}),
		{Flag: "concurrency", Env: "TESSERA_CONCURRENCY", Value: "N", Default: strconv.Itoa(connector.Concurrency),
			Usage: fmt.Sprintf("How many deliveries are worked on at once, 1 to %d.", tessera.ConcurrencyMax), Parse: s.setConcurrency},
		Text(&s.listen, Option{Flag: "listen", Env: "TESSERA_LISTEN", Value: "HOST:PORT",
			Usage: "Where to answer GET /healthz, GET /readyz and GET /metrics. Not given: nowhere."}),
		{Flag: "log-format", Env: "TESSERA_LOG_FORMAT", Value: "FORMAT", Default: "text",
			Usage: "How the log is written to standard error: text or json.", Parse: s.setLogFormat},
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

// config is what the SDK needs to know.
func (s *settings) config(connector Connector, stderr io.Writer) (tessera.Config, error) {
	if s.token == "" {
		return tessera.Config{}, fmt.Errorf("neither TESSERA_TOKEN nor --token-file nor TESSERA_TOKEN_FILE gives a token; "+
			"\"tessera connector add NAME --kind %s\" prints one", connector.Kind)
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

// tls is how the connection is encrypted; nil when it is not.
func (s *settings) tls() (*tls.Config, error) {
	if (s.cert == "") != (s.key == "") {
		return nil, errors.New("--cert and --key belong together; give both or neither")
	}
	if s.ca == "" {
		if s.cert != "" {
			return nil, errors.New("--cert needs --ca: without encryption no certificate is shown")
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
			return nil, fmt.Errorf("--ca: %s holds no certificate in PEM", s.ca)
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
