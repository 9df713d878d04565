package cli

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// server is a Tessera that has one delivery to make.
type server struct {
	tesserav1.UnimplementedActionsServiceServer
	tesserav1.UnimplementedScripsServiceServer
	deliveries chan *tesserav1.Delivery
	settled    chan *tesserav1.Settlement
	announced  chan *tesserav1.AnnounceRequest
}

func (s *server) Announce(_ context.Context, request *tesserav1.AnnounceRequest) (*tesserav1.AnnounceResponse, error) {
	s.announced <- request
	return &tesserav1.AnnounceResponse{}, nil
}

func (s *server) Lease(ctx context.Context, _ *tesserav1.LeaseRequest) (*tesserav1.LeaseResponse, error) {
	response := &tesserav1.LeaseResponse{Lease: durationpb.New(30 * time.Second)}
	select {
	case delivery := <-s.deliveries:
		response.Deliveries = append(response.Deliveries, delivery)
	case <-ctx.Done():
	}
	return response, nil
}

func (s *server) Settle(_ context.Context, request *tesserav1.SettleRequest) (*tesserav1.SettleResponse, error) {
	response := &tesserav1.SettleResponse{}
	for _, settlement := range request.GetSettlements() {
		s.settled <- settlement
		response.Receipts = append(response.Receipts, tesserav1.Receipt_RECEIPT_RECORDED)
	}
	return response, nil
}

// play lets a connector make one delivery, and returns what it settles. Where the connector is to end while it sends, send
// calls end.
func play(t *testing.T, send func(ctx context.Context, end func()) attempt.Attempt) *tesserav1.Settlement {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{
		deliveries: make(chan *tesserav1.Delivery, 1), settled: make(chan *tesserav1.Settlement, 1), announced: make(chan *tesserav1.AnnounceRequest, 1),
	}
	s.deliveries <- &tesserav1.Delivery{Id: "7", Lease: 3, Kind: "probe", Endpoint: "probe", Attempt: 1}
	services := grpc.NewServer()
	tesserav1.RegisterActionsServiceServer(services, s)
	tesserav1.RegisterScripsServiceServer(services, s)
	go func() { _ = services.Serve(listener) }()
	defer services.Stop()

	ctx, end := context.WithCancel(t.Context())
	connector := probe()
	connector.Timeout, connector.Drain = patience, 10*time.Millisecond
	connector.Open = func() (Transport, error) {
		return Transport{
			Send:  func(ctx context.Context, _ *tessera.Delivery) attempt.Attempt { return send(ctx, end) },
			Close: func() {},
		}, nil
	}
	env := map[string]string{"TESSERA_ADDRESS": listener.Addr().String(), "TESSERA_TOKEN": "tsc_canary"}
	var stdout, stderr strings.Builder
	ended := make(chan int)
	go func() {
		ended <- Run(ctx, connector, nil, func(name string) string { return env[name] }, &stdout, &stderr)
	}()
	var settlement *tesserav1.Settlement
	select {
	case settlement = <-s.settled:
	case <-time.After(patience):
		t.Fatal("nothing is settled")
	}
	end()
	select {
	case code := <-ended:
		if code != 0 || strings.Contains(stderr.String(), "canary") {
			t.Errorf("%d %s", code, stderr.String())
		}
	case <-time.After(patience):
		t.Fatal("the connector does not end")
	}
	if announced := <-s.announced; announced.GetKind() != "probe" || announced.GetSoftware() != "probe-connector/"+Version {
		t.Error(announced)
	}
	return settlement
}

func TestWhatAnAttemptCameToIsSettledAsItIs(t *testing.T) {
	recipients := []*tesserav1.RecipientAnswer{{Address: "a@example.org", Outcome: attempt.Retry, Answer: "450 later"}}
	for _, made := range []attempt.Attempt{
		{Outcome: attempt.Delivered, StatusCode: 202, Detail: "202 Accepted", Response: "thanks", Health: attempt.Works},
		{Outcome: attempt.Retry, StatusCode: 450, Detail: "450 later", Recipients: recipients, Health: attempt.Works},
		{Outcome: attempt.Retry, StatusCode: 429, Detail: "429 Too Many Requests", Health: attempt.Fails, Wait: time.Minute},
		{Outcome: attempt.Retry, Detail: "10.0.0.1 is a private address"},
		{Outcome: attempt.Permanent, StatusCode: 410, Detail: "410 Gone", Health: attempt.Works},
		{Outcome: attempt.Permanent, Detail: "the mail has no recipient"},
	} {
		got := play(t, func(context.Context, func()) attempt.Attempt { return made })
		if got.GetDeliveryId() != "7" || got.GetLease() != 3 || got.GetOutcome() != made.Outcome || int(got.GetStatusCode()) != made.StatusCode ||
			got.GetDetail() != made.Detail || got.GetResponse() != made.Response || got.GetHealth() != made.Health ||
			got.GetRetryAfter().AsDuration() != made.Wait || len(got.GetRecipients()) != len(made.Recipients) {
			t.Errorf("%+v is settled as %v", made, got)
		}
	}
}

func TestAnAttemptThatIsCalledOffIsReturnedUnlessSomebodyHasTheMessage(t *testing.T) {
	answer := func(outcome tesserav1.Outcome) []*tesserav1.RecipientAnswer {
		return []*tesserav1.RecipientAnswer{{Address: "a@example.org", Outcome: attempt.Retry}, {Address: "b@example.org", Outcome: outcome}}
	}
	for name, c := range map[string]struct {
		made       attempt.Attempt
		isReturned bool
	}{
		"broken off":          {attempt.New(attempt.Retry, "no answer"), true},
		"all put off":         {attempt.Attempt{Outcome: attempt.Retry, Recipients: answer(attempt.Retry)}, true},
		"one has it":          {attempt.Attempt{Outcome: attempt.Retry, Recipients: answer(attempt.Delivered)}, false},
		"one never gets it":   {attempt.Attempt{Outcome: attempt.Retry, Recipients: answer(attempt.Permanent)}, false},
		"delivered after all": {attempt.New(attempt.Delivered, "200 OK"), false},
	} {
		got := play(t, func(ctx context.Context, end func()) attempt.Attempt {
			end()
			<-ctx.Done()
			return c.made
		})
		if isReturned := got.GetOutcome() == tesserav1.Outcome_OUTCOME_RETURNED; isReturned != c.isReturned {
			t.Errorf("%s: %v", name, got)
		}
		if !c.isReturned && len(got.GetRecipients()) != len(c.made.Recipients) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
