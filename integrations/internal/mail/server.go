package mail

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"tessera.dev/integrations/internal/weburl"
)

// A mode is how a connection is encrypted.
type mode string

const (
	unencrypted   mode = "none"
	opportunistic mode = "opportunistic"
	required      mode = "required"
	// wrapped means TLS from the first byte.
	wrapped mode = "wrapped"
)

// A server is a mail server, and how to connect to it.
type server struct {
	host           string
	port           int
	user, password string
	mode           mode
	tls            *tls.Config
}

func (s server) address() string {
	return net.JoinHostPort(s.host, strconv.Itoa(s.port))
}

// parse parses the URL of a mail server.
func parse(text string) (server, error) {
	// Removes user and password first: package net/url accepts fewer characters in them, and its errors contain them.
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return server{}, errors.New("is not a URL; use smtp://host:port")
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	at := strings.LastIndexByte(authority, '@')
	s, err := withUser(authority, at)
	if err != nil {
		return server{}, err
	}
	parsed, err := url.Parse(scheme + "://" + rest[at+1:])
	if err != nil {
		return server{}, errors.New("is not a URL; use smtp://host:port")
	}
	if s.host = parsed.Hostname(); s.host == "" {
		return server{}, errors.New("has no host; use smtp://host:port")
	}
	if parsed.Path != "" && parsed.Path != "/" || strings.Contains(rest, "#") {
		return server{}, errors.New("contains more than a host and a port; use smtp://host:port")
	}
	wish, err := wishOf(parsed)
	if err != nil {
		return server{}, err
	}
	if s.mode, err = modeOf(parsed.Scheme, wish, s); err != nil {
		return server{}, err
	}
	s.tls = &tls.Config{ServerName: s.host, InsecureSkipVerify: s.mode == opportunistic}
	s.port, err = portOf(parsed, s)
	return s, err
}

// withUser returns a server with the user and password before the @ at an index of the authority.
func withUser(authority string, at int) (server, error) {
	if at < 0 {
		return server{}, nil
	}
	user, password, isComplete := strings.Cut(authority[:at], ":")
	if user == "" && password == "" {
		return server{}, nil
	}
	if user == "" || !isComplete {
		return server{}, errors.New("needs a user and a password, or neither: smtp://user:password@host:port")
	}
	s := server{user: weburl.Unescape(user), password: weburl.Unescape(password)}
	if !utf8.ValidString(s.user) || !utf8.ValidString(s.password) {
		return server{}, errors.New("has a user or password that is not UTF-8 after percent-decoding")
	}
	return s, nil
}

// wishOf returns the value of ?tls= in the URL; empty if it is missing.
func wishOf(parsed *url.URL) (string, error) {
	wish, isSaid := "", false
	for pair := range strings.SplitSeq(parsed.RawQuery, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		if key != "tls" || isSaid {
			return "", fmt.Errorf(
				"has \"%s\" in its query; only tls=required, opportunistic or none is allowed, and only once", key)
		}
		wish, isSaid = value, true
	}
	if isSaid && wish == "" {
		return "", errors.New("has tls=; valid values are required, opportunistic and none")
	}
	return wish, nil
}

func modeOf(scheme, wish string, s server) (mode, error) {
	ip, err := netip.ParseAddr(s.host)
	isHere := strings.EqualFold(s.host, "localhost") || err == nil && ip.IsLoopback()
	switch scheme {
	case "smtps":
		if wish == "" || wish == string(required) {
			return wrapped, nil
		}
		return "", fmt.Errorf("has tls=%s, but smtps is always encrypted", wish)
	case "smtp":
		switch mode(wish) {
		case required, opportunistic, unencrypted:
			return mode(wish), nil
		case "":
			if s.user != "" && !isHere {
				return required, nil
			}
			return opportunistic, nil
		}
		return "", fmt.Errorf("has tls=%s; valid values are required, opportunistic and none", wish)
	}
	return "", fmt.Errorf("begins with %s:; use smtp://host:port or smtps://host:port", scheme)
}

func portOf(parsed *url.URL, s server) (int, error) {
	switch {
	case parsed.Port() != "":
		port, err := strconv.ParseUint(parsed.Port(), 10, 16)
		if err != nil {
			return 0, errors.New("has an invalid port; ports are 0 to 65535")
		}
		return int(port), nil
	case parsed.Scheme == "smtps":
		return 465, nil
	case s.user != "":
		return 587, nil
	}
	return 25, nil
}
