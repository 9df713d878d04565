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

// MessageMax is the largest answer of the server that is read, in bytes.
const MessageMax = 16 << 20

// Limits of a [Config].
const (
	// ConcurrencyMax is the most attempts at a time.
	ConcurrencyMax = 100
	// TimeoutMax is the longest that an attempt may take: the server lets no lease be kept for more than 20 minutes.
	TimeoutMax = 19 * time.Minute
)

const (
	defaultAddress     = "127.0.0.1:8081"
	defaultConcurrency = 8
	defaultTimeout     = 5 * time.Minute
	defaultDrain       = 10 * time.Second
)

// Config says where Tessera is, who the connector is, and how much it does at a time.
type Config struct {
	// Address is where Tessera listens for connectors: "host:port", or "unix:///path" for a socket. Default: 127.0.0.1:8081.
	Address string
	// Token is what `tessera connector add` printed.
	Token string
	// TLS is how the server is known, and with a certificate how the connector is. Nil means clear text, which is refused
	// unless Address is on the loopback or a Unix socket.
	TLS *tls.Config
	// Kind is what the connector delivers; the token must be bound to it.
	Kind string
	// Schema is the JSON Schema of the payload, as JSON, which Tessera checks scrips against. Empty: every JSON is taken.
	Schema string
	// Software is what the connector calls itself, as in "chat-connector 1.2". Default: the kind and "connector".
	Software string
	// Concurrency is how many attempts are made at a time, at most [ConcurrencyMax]. Default: 8.
	Concurrency int
	// PerEndpoint is how many of these may go to one endpoint, so that one that hangs does not take every place. Default: there is
	// no such limit.
	PerEndpoint int
	// Timeout is how long one attempt may take, at most [TimeoutMax]. Default: 5 minutes.
	Timeout time.Duration
	// Drain is how long a stop waits for attempts to end before it cuts them off. Default: 10 seconds.
	Drain time.Duration
	// Logger takes what there is to say. Default: slog.Default().
	Logger *slog.Logger
	// Listen is the address of an HTTP server for /healthz, /readyz and /metrics. Empty: there is none.
	Listen string
}

// filled is the configuration with its defaults, or what is wrong with it.
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
		return c, errors.New("tessera: there is no token; `tessera connector add NAME --kind KIND` prints one")
	case c.Concurrency < 1 || c.Concurrency > ConcurrencyMax:
		return c, fmt.Errorf("tessera: Concurrency is %d, and must be 1 to %d", c.Concurrency, ConcurrencyMax)
	case c.PerEndpoint < 0:
		return c, fmt.Errorf("tessera: PerEndpoint is %d, and cannot be negative; 0 is no limit", c.PerEndpoint)
	case c.Timeout < 0 || c.Timeout > TimeoutMax:
		return c, fmt.Errorf("tessera: Timeout is %s, and must be at most %s", c.Timeout, TimeoutMax)
	case c.Drain < 0:
		return c, fmt.Errorf("tessera: Drain is %s, and cannot be negative", c.Drain)
	case c.TLS == nil && !isLocal(c.Address):
		return c, fmt.Errorf("tessera: %s is not on this machine, and without TLS the token would travel in the clear; set TLS", c.Address)
	}
	return c, nil
}

// isLocal says whether what goes to an address stays on this machine.
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

// dial makes a connection that is established when it is first used, and again whenever it breaks.
func (c Config) dial() (*grpc.ClientConn, error) {
	target, secure := c.Address, insecure.NewCredentials()
	if !strings.HasPrefix(target, "unix:") {
		if _, _, err := net.SplitHostPort(target); err != nil {
			return nil, fmt.Errorf("tessera: %q is no host:port and no unix:///path", c.Address)
		}
		target = "dns:///" + target
	}
	if c.TLS != nil {
		secure = credentials.NewTLS(c.TLS)
	}
	return grpc.NewClient(target,
		grpc.WithTransportCredentials(secure),
		// A proxy has no business between a desk and what stands beside it.
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

// authorize sends the token with every call, and how deep a call is that is made because of a delivery.
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

// depthKey is where a handler's context says how deep its delivery is.
type depthKey struct{}
