package tessera_test

import (
	"context"
	"fmt"
	"log"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// Creates one ticket for a mail, however often the call is retried. The token needs a user: `tessera connector add NAME --as USER`.
func ExampleDial() {
	server, err := connectortest.Listen(connectortest.Options{Tickets: &tickets{}})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Stop()

	client, err := tessera.Dial(tessera.Config{Address: server.Config().Address, Token: server.Config().Token})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	created, err := client.CreateTicket(context.Background(), &tesserav1.CreateTicketRequest{
		Ticket:         &tesserav1.NewTicket{Queue: "support", Subject: "The printer does not print"},
		IdempotencyKey: "<4711@mail.example>",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("created ticket", created.GetTicket().GetNumber())
	// Output: created ticket 7
}
