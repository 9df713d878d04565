// Package connectortest is for testing connectors: it contains a Tessera server for tests and a conformance suite for every connector.
//
// [Run] runs the suite. [Server] implements the services of proto/tessera/v1 over a real socket, with a clock that only the test advances:
// a lease expires when the test advances the clock, not because the machine is busy.
package connectortest

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// Patience is the timeout for everything that this package waits for.
	Patience = time.Minute
	// Schedule is the delay before a delivery is retried.
	Schedule = time.Minute
	// leaseDefault is the duration of leases unless [Options] override it.
	leaseDefault = 30 * time.Second
	// pollMax is the longest time that a Lease call waits, whatever it requests, so that connectors under test stop quickly.
	pollMax = 100 * time.Millisecond
	// serverMessageMax is the maximum size of messages that are received and sent, in bytes.
	serverMessageMax = 64 << 20
)

// Options configure a [Server].
type Options struct {
	// Kinds are the kinds that its token is bound to. Default: "test".
	Kinds []string
	// Lease is the duration of leases on the server's own clock. Default: 30 seconds. Connectors extend their leases three times per
	// duration, on the real clock.
	Lease time.Duration
	// Tickets implements TicketsService. Nil: the service is not available.
	Tickets tesserav1.TicketsServiceServer
}

// Server is a Tessera server for tests.
type Server struct {
	options Options
	token   string

	mu       sync.Mutex
	address  string
	services *grpc.Server
	around   Hook
	revoked  bool
	// passed is the time on its clock.
	passed time.Duration
	// bell is closed and replaced when a delivery may have become due.
	bell       chan struct{}
	lastLease  int64
	deliveries []*kept
	calls      map[string]int
	announced  []*tesserav1.AnnounceRequest
	asked      []*tesserav1.LeaseRequest
}

// NewServer starts a server that is stopped when the test ends.
func NewServer(t testing.TB, options Options) *Server {
	t.Helper()
	s, err := Listen(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// Listen starts a server on a free port of the loopback interface; [Server.Stop] stops it.
func Listen(options Options) (*Server, error) {
	if len(options.Kinds) == 0 {
		options.Kinds = []string{"test"}
	}
	options.Lease = cmp.Or(options.Lease, leaseDefault)
	s := &Server{
		options: options, token: "tsc_" + rand.Text(), address: "127.0.0.1:0", bell: make(chan struct{}), calls: map[string]int{},
	}
	return s, s.Start()
}

// Config returns the configuration of a connector for the first kind in [Options].
func (s *Server) Config() tessera.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return tessera.Config{Address: s.address, Token: s.token, Kind: s.options.Kinds[0]}
}

// Start starts the server again, at the same address and with all its deliveries.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.services != nil {
		return nil
	}
	listener, err := net.Listen("tcp", s.address)
	// Another connection may temporarily use the port.
	for end := time.Now().Add(Patience); err != nil && time.Now().Before(end); listener, err = net.Listen("tcp", s.address) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("the server cannot listen: %w", err)
	}
	s.address = listener.Addr().String()
	services := grpc.NewServer(
		grpc.UnaryInterceptor(s.intercept), grpc.MaxRecvMsgSize(serverMessageMax), grpc.MaxSendMsgSize(serverMessageMax),
		// After Stop has returned, no pending call leases a delivery.
		grpc.WaitForHandlers(true),
	)
	tesserav1.RegisterActionsServiceServer(services, actions{s: s})
	tesserav1.RegisterScripsServiceServer(services, scrips{s: s})
	if s.options.Tickets != nil {
		tesserav1.RegisterTicketsServiceServer(services, s.options.Tickets)
	}
	s.services = services
	go func() { _ = services.Serve(listener) }()
	return nil
}

// Stop closes the listener and every connection, and aborts every call.
func (s *Server) Stop() {
	s.mu.Lock()
	services := s.services
	s.services = nil
	s.mu.Unlock()
	if services != nil {
		services.Stop()
	}
}

// Revoke revokes the token.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = true
	s.ring()
}

// Advance advances the clock: leases expire, and retries become due.
func (s *Server) Advance(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed += by
	s.ring()
}

// Hook intercepts calls: it may execute the call or not, and the connector gets the error that it returns. The method is the last part of
// its full name, as in "Settle".
type Hook func(method string, request any, call func() error) error

// Around passes every call from now on through a hook; nil removes the hook.
func (s *Server) Around(hook Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.around = hook
}

// Queue adds a delivery that is due now, and returns its id. Missing fields are filled in: id, kind, endpoint, ticket, transaction, time.
func (s *Server) Queue(delivery *tesserav1.Delivery) string {
	made := proto.CloneOf(delivery)
	if made.GetId() == "" {
		made.Id = newID()
	}
	made.Kind = cmp.Or(made.GetKind(), s.options.Kinds[0])
	made.Endpoint = cmp.Or(made.GetEndpoint(), made.GetKind())
	made.TransactionId = cmp.Or(made.GetTransactionId(), newID())
	if made.GetTicket() == nil {
		made.Ticket = &tesserav1.TicketKey{Id: newID(), Number: 1, Url: "http://tessera.example/tickets/1"}
	}
	if made.GetCreatedAt() == nil {
		made.CreatedAt = timestamppb.Now()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliveries = append(s.deliveries, &kept{made: made, due: s.passed, answered: map[string]bool{}})
	s.ring()
	return made.GetId()
}

// QueueJSON adds a delivery with a JSON payload that is due now, and returns its id.
func (s *Server) QueueJSON(payload string) string {
	return s.Queue(&tesserav1.Delivery{Payload: &tesserav1.Delivery_Json{Json: payload}})
}

// Cancel cancels a delivery, as an operator does.
func (s *Server) Cancel(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.find(id); one != nil {
		one.cancelled, one.current = true, 0
	}
}

// Calls returns how often a method, such as "Settle", was called.
func (s *Server) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// Announced returns the announcements of connectors, oldest first.
func (s *Server) Announced() []*tesserav1.AnnounceRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.announced)
}

// Asked returns the requests to lease, oldest first.
func (s *Server) Asked() []*tesserav1.LeaseRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// intercept checks the token and passes the call through the hook.
func (s *Server) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	s.mu.Lock()
	s.calls[method]++
	around, known := s.around, !s.revoked && slices.Equal(metadata.ValueFromIncomingContext(ctx, "authorization"), []string{"Bearer " + s.token})
	s.mu.Unlock()
	if !known {
		return nil, status.Error(codes.Unauthenticated, "The token is invalid or has been revoked. `tessera connector add` creates a new one.")
	}
	if around == nil {
		return handler(ctx, request)
	}
	var response any
	err := around(method, request, func() (err error) {
		response, err = handler(ctx, request)
		return err
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// ring wakes the waiting calls.
func (s *Server) ring() {
	close(s.bell)
	s.bell = make(chan struct{})
}

func (s *Server) find(id string) *kept {
	for _, one := range s.deliveries {
		if one.made.GetId() == id {
			return one
		}
	}
	return nil
}

// newID returns a random UUID.
func newID() string {
	var bytes [16]byte
	_, _ = rand.Read(bytes[:])
	bytes[6], bytes[8] = bytes[6]&0x0f|0x40, bytes[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", bytes[:4], bytes[4:6], bytes[6:8], bytes[8:10], bytes[10:])
}

// scrips implements ScripsService.
type scrips struct {
	tesserav1.UnimplementedScripsServiceServer

	s *Server
}

func (d scrips) Announce(_ context.Context, request *tesserav1.AnnounceRequest) (*tesserav1.AnnounceResponse, error) {
	if err := d.s.bound(request.GetKind()); err != nil {
		return nil, err
	}
	if length := len([]rune(request.GetSoftware())); length < 1 || length > 100 {
		return nil, status.Errorf(codes.InvalidArgument, "software: has %d characters; it must have 1 to 100", length)
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.s.announced = append(d.s.announced, request)
	return &tesserav1.AnnounceResponse{}, nil
}

func (s *Server) bound(kind string) error {
	if !slices.Contains(s.options.Kinds, kind) {
		return status.Errorf(codes.PermissionDenied, "The token is not bound to the kind %q. `tessera connector add NAME --kind %s` creates one that is.", kind, kind)
	}
	return nil
}

// actions implements ActionsService.
type actions struct {
	tesserav1.UnimplementedActionsServiceServer

	s *Server
}

func (d actions) Lease(ctx context.Context, request *tesserav1.LeaseRequest) (*tesserav1.LeaseResponse, error) {
	if err := d.s.check(request); err != nil {
		return nil, err
	}
	wait := pollMax
	if request.GetWait() != nil {
		wait = min(request.GetWait().AsDuration(), pollMax)
	}
	end := time.After(wait)
	d.s.mu.Lock()
	d.s.asked = append(d.s.asked, request)
	d.s.mu.Unlock()
	for {
		d.s.mu.Lock()
		bell, response := d.s.bell, &tesserav1.LeaseResponse{Lease: durationpb.New(d.s.options.Lease)}
		if ctx.Err() == nil {
			response.Deliveries = d.s.lease(request)
		}
		d.s.mu.Unlock()
		if len(response.GetDeliveries()) > 0 {
			return response, nil
		}
		select {
		case <-bell:
		case <-end:
			return response, nil
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (d actions) Extend(_ context.Context, request *tesserav1.ExtendRequest) (*tesserav1.ExtendResponse, error) {
	if err := within("leases", len(request.GetLeases()), 1, 1000); err != nil {
		return nil, err
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	response := &tesserav1.ExtendResponse{}
	for _, key := range request.GetLeases() {
		one := d.s.find(key.GetDeliveryId())
		if one == nil || one.current == 0 || one.current != key.GetLease() {
			response.Lost = append(response.Lost, key)
			continue
		}
		one.due = d.s.passed + d.s.options.Lease
		one.leases[len(one.leases)-1].Extended++
	}
	return response, nil
}

func (d actions) Settle(_ context.Context, request *tesserav1.SettleRequest) (*tesserav1.SettleResponse, error) {
	if err := within("settlements", len(request.GetSettlements()), 1, 100); err != nil {
		return nil, err
	}
	for _, one := range request.GetSettlements() {
		if one.GetOutcome() == tesserav1.Outcome_OUTCOME_UNSPECIFIED && len(one.GetRecipients()) == 0 {
			return nil, status.Error(codes.InvalidArgument, "settlements.outcome: is missing or unknown")
		}
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	response := &tesserav1.SettleResponse{}
	for _, one := range request.GetSettlements() {
		response.Receipts = append(response.Receipts, d.s.settle(one))
	}
	d.s.ring()
	return response, nil
}

// check validates a request against the limits of the contract.
func (s *Server) check(request *tesserav1.LeaseRequest) error {
	if err := within("rooms", len(request.GetRooms()), 1, 16); err != nil {
		return err
	}
	for _, room := range request.GetRooms() {
		if err := cmp.Or(
			within("rooms.places", int(room.GetPlaces()), 1, 100), within("rooms.per_endpoint", int(room.GetPerEndpoint()), 0, 1000),
			s.bound(room.GetKind()),
		); err != nil {
			return err
		}
	}
	for _, busy := range request.GetBusy() {
		if err := within("busy.running", int(busy.GetRunning()), 1, 1000); err != nil {
			return err
		}
	}
	return cmp.Or(
		within("busy", len(request.GetBusy()), 0, 1000), within("wait", int(request.GetWait().AsDuration().Seconds()), 0, 30),
	)
}

func within(field string, number, least, most int) error {
	if number < least || number > most {
		return status.Errorf(codes.InvalidArgument, "%s: value or count is %d; it must be from %d to %d", field, number, least, most)
	}
	return nil
}
