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
	// connectTimeout is the timeout for resolving, connecting and the TLS handshake together.
	connectTimeout = 5 * time.Second
	// fallbackDelay is the delay before the addresses of the other family are tried in parallel (RFC 8305).
	fallbackDelay = 300 * time.Millisecond
)

// errConnectTimeout is the error for a connection that took longer than connectTimeout.
var errConnectTimeout = errors.New("could not connect in time")

// A connectError is any other failure to connect.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

// A dialer connects to addresses that its guard allows. It resolves names itself and dials the addresses that it has checked,
// so that a second DNS lookup cannot return a different address.
type dialer struct {
	guard   Guard
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// roots are the trusted certificate authorities; nil: those of the machine.
	roots *x509.CertPool
}

// systemResolver resolves names with the resolver of the machine.
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

// connected calls connect with connectTimeout, and classifies its error.
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
	// A timeout of the name server is a failure to resolve the name.
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

// addresses returns the allowed addresses of a host, or the error of the guard if it allows no address.
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
	return nil, fmt.Errorf("found no address for %s", host)
}

// families splits addresses into those of the family of the first one, and the others.
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

// race connects to the first address that responds. It starts with the other family after fallbackDelay or a failure.
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
				// If the other attempt succeeds as well, its connection is closed.
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

// inTurn connects to the first address that responds, one after the other; the remaining time is divided evenly.
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
