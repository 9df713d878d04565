package tessera

import (
	"google.golang.org/grpc"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// Client reads and changes tickets, as the user that the token was bound to with `tessera connector add --as USER`: the side through
// which things come in. It is safe for use by many goroutines.
//
// Give a create or a change an idempotency key, such as the Message-ID of the mail that it comes from: then it is safe to call again
// after an error, and makes one ticket.
//
// A call with a handler's context tells Tessera which delivery it is made because of, so that two desks that answer each other stop.
type Client struct {
	tesserav1.TicketsServiceClient

	conn *grpc.ClientConn
}

// Dial makes a client. Of the configuration it needs Address, Token and TLS. Nothing is sent before the first call.
func Dial(config Config) (*Client, error) {
	config, err := config.filled()
	if err != nil {
		return nil, err
	}
	conn, err := config.dial()
	if err != nil {
		return nil, err
	}
	return &Client{tesserav1.NewTicketsServiceClient(conn), conn}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }
