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
// What the handler returns is the decision: nil is delivered, an error is tried again by the schedule of the kind, [Permanent] gives up,
// [RetryAfter] says when at the earliest. A delivery is at least once: use its ID where the receiver can tell doubles by it.
//
// The other way round, [Dial] makes a [Client] that reads, makes and changes tickets.
package tessera
