package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// connectTimeout is how long resolving, connecting and the handshake of TLS may take together.
	connectTimeout = 5 * time.Second
	// fallbackDelay is how long the addresses of one family have before those of the other are tried beside them (RFC 8305).
	fallbackDelay = 300 * time.Millisecond
)

// errConnectTimeout says that connectTimeout has passed.
var errConnectTimeout = errors.New("could not connect in time")

// A connectError is any other reason why there is no connection.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

// A dialer connects to what its guard lets through. It resolves names itself and dials the addresses that it has checked,
// so that no second answer of a name server comes between.
type dialer struct {
	guard   Guard
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// roots are whose certificates are believed; nil: those that the machine believes.
	roots *x509.CertPool
}

// systemResolver asks the machine's own resolver.
func systemResolver(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

func (d *dialer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	return connected(ctx, func(ctx context.Context) (net.Conn, error) { return d.connect(ctx, address) })
}

func (d *dialer) dialTLS(ctx context.Context, _, address string) (net.Conn, error) {
	return connected(ctx, func(ctx context.Context) (net.Conn, error) {
		conn, err := d.connect(ctx, address)
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(address)
		secure := tls.Client(conn, &tls.Config{ServerName: host, NextProtos: []string{"h2", "http/1.1"}, RootCAs: d.roots})
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secure, nil
	})
}

// connected gives connect its time, and its error the type that says what it means.
func connected(ctx context.Context, connect func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, errConnectTimeout)
	defer cancel()
	conn, err := connect(ctx)
	var refused *Refused
	var network net.Error
	var resolving *net.DNSError
	switch {
	case err == nil || errors.As(err, &refused):
		return conn, err
	case errors.Is(context.Cause(ctx), errConnectTimeout):
		return nil, errConnectTimeout
	// A name server that took too long by its own measure is one that cannot be asked.
	case errors.As(err, &network) && network.Timeout() && !errors.As(err, &resolving):
		return nil, errConnectTimeout
	}
	return nil, connectError{err}
}

func (d *dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	allowed, err := d.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	first, other := families(allowed)
	return race(ctx, first, other, port)
}

// addresses returns the addresses of a host that may be reached; the guard's refusal when there are none.
func (d *dialer) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	found := []netip.Addr{}
	if literal, err := netip.ParseAddr(host); err == nil {
		found = append(found, literal)
	} else if found, err = d.resolve(ctx, host); err != nil {
		return nil, err
	}
	var refusal error
	var allowed []netip.Addr
	for _, ip := range found {
		if err := d.guard.Check(ip); err != nil {
			refusal = err
		} else {
			allowed = append(allowed, ip)
		}
	}
	switch {
	case len(allowed) > 0:
		return allowed, nil
	case refusal != nil:
		return nil, refusal
	}
	return nil, fmt.Errorf("no address is known of %s", host)
}

// families divides addresses into those of the first one's family and the others.
func families(addresses []netip.Addr) (first, other []netip.Addr) {
	for _, ip := range addresses {
		if ip.Unmap().Is4() == addresses[0].Unmap().Is4() {
			first = append(first, ip)
		} else {
			other = append(other, ip)
		}
	}
	return first, other
}

// race connects to the first address that answers, and begins with the other family's when the first takes long or fails.
func race(ctx context.Context, first, other []netip.Addr, port string) (net.Conn, error) {
	if len(other) == 0 {
		return inTurn(ctx, first, port)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results, running := make(chan result, 2), 1
	start := func(addresses []netip.Addr) {
		conn, err := inTurn(ctx, addresses, port)
		results <- result{conn, err}
	}
	go start(first)
	fallback := time.After(fallbackDelay)
	for {
		select {
		case <-fallback:
		case got := <-results:
			running--
			if got.err == nil {
				// The loser's connection, should it have come about as well, is closed when it comes.
				go func(left int) {
					for range left {
						if late := <-results; late.err == nil {
							_ = late.conn.Close()
						}
					}
				}(running)
				return got.conn, nil
			}
			if running == 0 && other == nil {
				return nil, got.err
			}
		}
		if other != nil {
			go start(other)
			running++
			other, fallback = nil, nil
		}
	}
}

// inTurn connects to the first address that answers; each has its share of the time that is left.
func inTurn(ctx context.Context, addresses []netip.Addr, port string) (net.Conn, error) {
	var conn net.Conn
	var err error
	for i, ip := range addresses {
		dialer := net.Dialer{}
		if deadline, ok := ctx.Deadline(); ok {
			dialer.Timeout = max(time.Until(deadline)/time.Duration(len(addresses)-i), time.Millisecond)
		}
		if conn, err = dialer.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}
