package tessera

import (
	"google.golang.org/grpc"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// Client reads, creates and changes tickets as the user that the token was bound to with `tessera connector add --as USER`. It is safe
// for concurrent use.
//
// Give each create and each change an idempotency key, such as the Message-ID of the mail that caused it: it is then safe to retry after
// an error.
//
// A call with a handler's context sends Tessera the depth of that delivery, so that two systems that respond to each other stop.
type Client struct {
	tesserav1.TicketsServiceClient

	conn *grpc.ClientConn
}

// Dial creates a client. It uses Address, Token and TLS of the configuration, and connects at the first call.
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

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }
