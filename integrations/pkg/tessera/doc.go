// Package tessera is the SDK for connectors: programs that deliver what Tessera's scrips create, or that bring something into Tessera.
//
// A connector is a [Handler] and a [Config]: [Run] leases deliveries of one kind from Tessera, calls the handler for each, and reports the
// result to Tessera. It extends leases while handlers work, reconnects, and shuts down cleanly when its context ends:
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
// The token is printed by `tessera connector add NAME --kind sms`. When the connector has started for the first time, scrips can use the
// kind, and the deliveries that they created before are sent. The package example is a complete connector.
//
// # The handler
//
// The error that the handler returns decides what happens: nil means delivered, an error is retried on the schedule of the kind,
// [Permanent] gives up, and [RetryAfter] sets the earliest time of the next attempt. Both may be wrapped. People read the text of the
// error in the ticket's history, so it must not contain a secret; [Delivery.Report] reports more than an error can.
//
// Delivery is at least once: a connector may die after it has sent something and before it has reported that. The ID of a delivery is the
// same at every attempt; pass it to the receiver, which can then ignore duplicates.
//
// The handler's context ends when the attempt takes longer than [Config.Timeout], when the lease is lost ([ErrLeaseLost]), and when the
// connector stops and the attempt takes longer than [Config.Drain] ([ErrStopping]); [context.Cause] returns the reason. The handler should
// then return soon. A handler that does not return keeps its slot; when such handlers occupy all slots, Run returns an error, so that a
// supervisor can restart the program. A panic in a handler is logged, and the delivery is retried.
//
// # Running it
//
// Up to [Config.Concurrency] handlers run at a time, up to [Config.PerEndpoint] of them for one endpoint. Run leases only as many
// deliveries as there are free slots, so any number of connectors of one kind can share the work. When Run's context ends, attempts in
// progress are finished; those that cannot be finished in time are returned, and their deliveries are due again immediately.
// [Config.Listen] serves /healthz, /readyz (Tessera responded within the last 30 seconds) and /metrics.
//
// # Reading and changing tickets
//
// [Dial] creates a [Client] that reads, creates and changes tickets. When it is called with a handler's context, it sends Tessera the
// depth of the chain of deliveries, which stops endless loops.
//
// # Tests
//
// Package connectortest contains a Tessera server for tests, and a conformance suite that covers what can go wrong, for every connector
// to pass.
package tessera
