// Package tessera is for programs that deliver what Tessera's scrips make, or through which things come in.
//
// A connector is a [Handler] and a [Config]: [Run] asks Tessera for deliveries of one kind, calls the handler for each, and tells
// Tessera what came of it. It keeps leases alive while handlers work, reconnects, and stops in order when its context ends:
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//		defer stop()
//		err := tessera.Run(ctx, tessera.Config{
//			Token:    os.Getenv("TESSERA_TOKEN"),
//			Kind:     "sms",
//			Schema:   `{"type": "object", "required": ["to", "text"], "properties": {"to": {"type": "string"}, "text": {"type": "string"}}}`,
//			Software: "sms-connector 1.0",
//		}, send)
//		if err != nil {
//			log.Fatal(err)
//		}
//	}
//
// The token is what `tessera connector add NAME --kind sms` printed. From the first start on scrips can use the kind; what they made
// before is delivered then. The example of the package is such a connector, whole.
//
// # The handler
//
// What the handler returns is the decision: nil is delivered, an error is tried again by the schedule of the kind, [Permanent] gives up,
// [RetryAfter] says when at the earliest. Both may be wrapped. The words of the error are what people read in the ticket's history, so
// they must hold no secret; [Delivery.Report] says more than an error can.
//
// A delivery is at least once: a connector may die between sending and saying so. Its ID is the same at every attempt; hand it to the
// receiver, which then takes it once.
//
// The handler's context ends when the attempt takes longer than [Config.Timeout], when the delivery is no longer this connector's
// ([ErrLeaseLost]), and when the connector stops and the attempt takes longer than [Config.Drain] ([ErrStopping]); [context.Cause] says
// which. Return soon then. A handler that does not return keeps its place; when all places are kept so, Run returns an error, for a
// supervisor to start the program again. A panic in a handler is logged, and the delivery is tried again.
//
// # Running it
//
// Up to [Config.Concurrency] handlers run at a time, up to [Config.PerEndpoint] of them for one endpoint, and no more is leased than
// there are free places: run as many connectors of one kind as you like, each takes what it can do. When Run's context ends, attempts
// under way are finished, and what cannot be is given back and due at once. [Config.Listen] serves /healthz, /readyz (Tessera answered
// within the last 30 seconds) and /metrics.
//
// # The other way round
//
// [Dial] makes a [Client] that reads, makes and changes tickets. Called with a handler's context it tells Tessera how deep in a chain of
// deliveries that is, so that a loop ends.
//
// # Tests
//
// Package connectortest has a Tessera that lives in a test, and a suite of what can go wrong, for every connector to pass.
package tessera
