package tessera

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// MessageMax is the maximum size of a response from the server, in bytes.
const MessageMax = 16 << 20

// Limits of a [Config].
const (
	// ConcurrencyMax is the maximum number of concurrent attempts.
	ConcurrencyMax = 100
	// TimeoutMax is the maximum duration of an attempt: the server ends every lease after 20 minutes.
	TimeoutMax = 19 * time.Minute
)

const (
	defaultAddress     = "127.0.0.1:8081"
	defaultConcurrency = 8
	defaultTimeout     = 5 * time.Minute
	defaultDrain       = 10 * time.Second
)

// Config is the configuration of a connector: the server, the connector's identity, and its limits.
type Config struct {
	// Address is where Tessera listens for connectors: "host:port", or "unix:///path" for a socket. Default: 127.0.0.1:8081.
	Address string
	// Token is the token that `tessera connector add` printed.
	Token string
	// TLS authenticates the server and, if it has a certificate, the connector. Nil means an unencrypted connection, which is an error
	// unless Address is a loopback address or a Unix socket.
	TLS *tls.Config
	// Kind is the kind of deliveries that the connector delivers; the token must be bound to it.
	Kind string
	// Schema is the JSON Schema of the payload, as JSON; Tessera validates scrips against it. Empty: any JSON is valid.
	Schema string
	// Software is the name and version of the connector, as in "chat-connector 1.2". Default: the kind followed by "connector".
	Software string
	// Concurrency is the maximum number of concurrent attempts, at most [ConcurrencyMax]. Default: 8.
	Concurrency int
	// PerEndpoint is the maximum number of concurrent attempts at one endpoint, so that an endpoint that hangs does not occupy every
	// slot. Default: no limit.
	PerEndpoint int
	// Timeout is the maximum duration of one attempt, at most [TimeoutMax]. Default: 5 minutes.
	Timeout time.Duration
	// Drain is how long Run waits for attempts to finish when it stops, before it cancels them. Default: 10 seconds.
	Drain time.Duration
	// Logger receives log messages. Default: slog.Default().
	Logger *slog.Logger
	// Listen is the address of an HTTP server for /healthz, /readyz and /metrics. Empty: no such server.
	Listen string
}

// filled returns the configuration with its defaults, or an error if it is invalid.
func (c Config) filled() (Config, error) {
	c.Address = cmp.Or(c.Address, defaultAddress)
	c.Software = cmp.Or(c.Software, strings.TrimSpace(c.Kind+" connector"))
	c.Concurrency = cmp.Or(c.Concurrency, defaultConcurrency)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.Drain = cmp.Or(c.Drain, defaultDrain)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case strings.TrimSpace(c.Token) == "":
		return c, errors.New("tessera: Token is empty; `tessera connector add NAME --kind KIND` creates a token")
	case c.Concurrency < 1 || c.Concurrency > ConcurrencyMax:
		return c, fmt.Errorf("tessera: Concurrency is %d; it must be from 1 to %d", c.Concurrency, ConcurrencyMax)
	case c.PerEndpoint < 0:
		return c, fmt.Errorf("tessera: PerEndpoint is %d; it must not be negative, and 0 means no limit", c.PerEndpoint)
	case c.Timeout < 0 || c.Timeout > TimeoutMax:
		return c, fmt.Errorf("tessera: Timeout is %s; it must be positive and at most %s", c.Timeout, TimeoutMax)
	case c.Drain < 0:
		return c, fmt.Errorf("tessera: Drain is %s; it must not be negative", c.Drain)
	case c.TLS == nil && !isLocal(c.Address):
		return c, fmt.Errorf("tessera: Address %s is not local, and without TLS the token would be sent unencrypted; set TLS", c.Address)
	}
	return c, nil
}

// isLocal reports whether an address is a loopback address or a Unix socket.
func isLocal(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// dial returns a connection that is established at the first call, and again after it was lost.
func (c Config) dial() (*grpc.ClientConn, error) {
	target, secure := c.Address, insecure.NewCredentials()
	if !strings.HasPrefix(target, "unix:") {
		if _, _, err := net.SplitHostPort(target); err != nil {
			return nil, fmt.Errorf("tessera: Address %q is neither host:port nor unix:///path", c.Address)
		}
		target = "dns:///" + target
	}
	if c.TLS != nil {
		secure = credentials.NewTLS(c.TLS)
	}
	return grpc.NewClient(target,
		grpc.WithTransportCredentials(secure),
		// Proxies from the environment are for the Internet, not for the server that a connector belongs to.
		grpc.WithNoProxy(),
		grpc.WithUnaryInterceptor(c.authorize),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MessageMax)),
		grpc.WithUserAgent(c.Software),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: backoffMin, Multiplier: 2, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
	)
}

// authorize sends the token with every call, and the depth of the delivery with a call that has a handler's context.
func (c Config) authorize(
	ctx context.Context, method string, request, reply any,
	conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(c.Token))
	if depth, ok := ctx.Value(depthKey{}).(int); ok {
		ctx = metadata.AppendToOutgoingContext(ctx, "tessera-depth", fmt.Sprint(depth))
	}
	return invoke(ctx, method, request, reply, conn, options...)
}

// depthKey is the key for the depth of the delivery in a handler's context.
type depthKey struct{}
