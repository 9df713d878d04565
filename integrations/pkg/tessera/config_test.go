package tessera_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

func TestAnInvalidConfigurationIsRejectedWithAHelpfulError(t *testing.T) {
	for want, edit := range map[string]func(*tessera.Config){
		"`tessera connector add NAME --kind KIND` creates a token":        func(c *tessera.Config) { c.Token = " \n" },
		"Concurrency is 101; it must be from 1 to 100":                    func(c *tessera.Config) { c.Concurrency = 101 },
		"Concurrency is -1; it must be from 1 to 100":                     func(c *tessera.Config) { c.Concurrency = -1 },
		"PerEndpoint is -1; it must not be negative":                      func(c *tessera.Config) { c.PerEndpoint = -1 },
		"Timeout is 1h0m0s; it must be positive and at most":              func(c *tessera.Config) { c.Timeout = time.Hour },
		"Timeout is -1s; it must be positive and at most":                 func(c *tessera.Config) { c.Timeout = -time.Second },
		"Drain is -1s; it must not be negative":                           func(c *tessera.Config) { c.Drain = -time.Second },
		"desk.example:443 is not local":                                   func(c *tessera.Config) { c.Address = "desk.example:443" },
		"10.0.0.1:8081 is not local":                                      func(c *tessera.Config) { c.Address = "10.0.0.1:8081" },
		`"desk.example" is neither host:port nor unix:///path`:            func(c *tessera.Config) { c.Address, c.TLS = "desk.example", &tls.Config{} },
		"cannot serve health and metrics at Listen: listen tcp: address ": func(c *tessera.Config) { c.Listen = "nowhere" },
	} {
		config := tessera.Config{Token: "tsc_canary", Kind: "test"}
		edit(&config)
		err := tessera.Run(t.Context(), config, delivered)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if _, err := tessera.Dial(tessera.Config{Address: "desk.example:443", Token: "tsc_canary"}); err == nil {
		t.Error("the token would be sent unencrypted")
	}
}

// tickets is a TicketsService that creates ticket 7, and records the metadata of calls.
type tickets struct {
	tesserav1.UnimplementedTicketsServiceServer

	mu       sync.Mutex
	metadata []metadata.MD
}

func (s *tickets) CreateTicket(ctx context.Context, _ *tesserav1.CreateTicketRequest) (*tesserav1.CreateTicketResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	came, _ := metadata.FromIncomingContext(ctx)
	s.metadata = append(s.metadata, came)
	return &tesserav1.CreateTicketResponse{Ticket: &tesserav1.Ticket{Number: 7}}, nil
}

// create creates a ticket, and returns the metadata that the server got with the call.
func (s *tickets) create(t *testing.T, ctx context.Context, client *tessera.Client) metadata.MD {
	t.Helper()
	made, err := client.CreateTicket(ctx, &tesserav1.CreateTicketRequest{})
	if err != nil || made.GetTicket().GetNumber() != 7 {
		t.Errorf("%v %v", made, err)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.metadata[len(s.metadata)-1]
}

func TestACallSendsTheTokenAndTheDepthOfTheDelivery(t *testing.T) {
	service := &tickets{}
	server := connectortest.NewServer(t, connectortest.Options{Tickets: service})
	client, err := tessera.Dial(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	came := service.create(t, t.Context(), client)
	if token := came.Get("authorization"); len(token) != 1 || token[0] != "Bearer "+server.Config().Token || len(came.Get("tessera-depth")) != 0 {
		t.Errorf("%v", came)
	}
	seen := make(chan metadata.MD, 1)
	run(t, server, nil, func(ctx context.Context, _ *tessera.Delivery) error {
		seen <- service.create(t, ctx, client)
		return nil
	})
	server.Queue(&tesserav1.Delivery{Depth: 3})
	if depth := received(t, seen).Get("tessera-depth"); len(depth) != 1 || depth[0] != "3" {
		t.Errorf("%v", depth)
	}
}

func TestAServerIsReachedAtAUnixSocketAndThroughTLS(t *testing.T) {
	authority := httptest.NewTLSServer(nil)
	defer authority.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(authority.Certificate())
	socket := filepath.Join(t.TempDir(), "s")
	for _, c := range []struct {
		network, address string
		secure           credentials.TransportCredentials
		config           *tls.Config
	}{
		{"unix", socket, insecure.NewCredentials(), nil},
		{"tcp", "127.0.0.1:0", credentials.NewServerTLSFromCert(&authority.TLS.Certificates[0]), &tls.Config{RootCAs: trusted}},
	} {
		listener, err := net.Listen(c.network, c.address)
		if err != nil {
			t.Fatal(err)
		}
		service, services := &tickets{}, grpc.NewServer(grpc.Creds(c.secure))
		tesserav1.RegisterTicketsServiceServer(services, service)
		go func() { _ = services.Serve(listener) }()
		defer services.Stop()
		address := listener.Addr().String()
		if c.network == "unix" {
			address = "unix://" + address
		}
		client, err := tessera.Dial(tessera.Config{Address: address, Token: "tsc_1", TLS: c.config})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		service.create(t, t.Context(), client)
	}
}
