// Package weburl parses URLs as browsers and Tessera itself do (WHATWG URL standard). That differs from package net/url in
// which address a host means, which matters to a sender of webhooks.
package weburl

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// A URL is a parsed URL whose host can be dialled.
type URL struct {
	// URL has a normalized host, and neither user nor fragment.
	*url.URL
	// Literal is the address if the host is an IP address in any notation, otherwise the zero Addr.
	Literal netip.Addr
}

// forbidden are the visible characters that a host name must not contain.
const forbidden = `#/:<>?@[\]^|%`

// mapping converts host names to ASCII as browsers do.
var mapping = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false),
	idna.CheckHyphens(false), idna.CheckJoiners(true), idna.BidiRule(), idna.VerifyDNSLength(false))

// Parse parses an absolute http or https URL. The error does not contain the URL.
func Parse(text string) (URL, error) {
	text = strings.TrimFunc(text, func(r rune) bool { return r <= ' ' })
	text = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(text)
	scheme, rest, found := strings.Cut(text, ":")
	scheme = strings.ToLower(scheme)
	if !found || scheme == "" {
		return URL{}, errors.New("relative URL without a base")
	}
	if scheme != "http" && scheme != "https" {
		return URL{}, fmt.Errorf("it begins with %q, not with http:// or https://", scheme+":")
	}
	rest, _, _ = strings.Cut(strings.TrimLeft(rest, `/\`), "#")
	authority, after := rest, ""
	if end := strings.IndexAny(rest, `/\?`); end >= 0 {
		authority, after = rest[:end], rest[end:]
	}
	authority = authority[strings.LastIndexByte(authority, '@')+1:]
	name, port, err := splitPort(authority, scheme)
	if err != nil {
		return URL{}, err
	}
	host, literal, err := parseHost(name)
	if err != nil {
		return URL{}, err
	}
	path, query, hasQuery := strings.Cut(after, "?")
	made, err := withPath(scheme, host+port, encode(strings.ReplaceAll(path, `\`, "/"), "`{}"))
	if err != nil {
		return URL{}, err
	}
	made.RawQuery, made.ForceQuery = encode(query, "'"), hasQuery && query == ""
	return URL{made, literal}, nil
}

// Unescape decodes the percent-encoding of text; invalid escapes stay as they are.
func Unescape(text string) string {
	var plain strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				plain.WriteByte(byte(code))
				i += 2
				continue
			}
		}
		plain.WriteByte(text[i])
	}
	return plain.String()
}

// splitPort splits an authority into host and port. The port includes the colon, and is empty if it is the default port of
// the scheme.
func splitPort(authority, scheme string) (string, string, error) {
	at := strings.LastIndexByte(authority, ':')
	if at < 0 || strings.HasSuffix(authority, "]") {
		return authority, "", nil
	}
	digits := authority[at+1:]
	if digits == "" {
		return authority[:at], "", nil
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || strings.HasPrefix(digits, "+") {
		return "", "", errors.New("invalid port number")
	}
	if scheme == "http" && port == 80 || scheme == "https" && port == 443 {
		return authority[:at], "", nil
	}
	return authority[:at], fmt.Sprintf(":%d", port), nil
}

func parseHost(text string) (string, netip.Addr, error) {
	if strings.HasPrefix(text, "[") {
		literal, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
		if err != nil || !literal.Is6() || literal.Zone() != "" || !strings.HasSuffix(text, "]") {
			return "", netip.Addr{}, errors.New("invalid IPv6 address")
		}
		if literal.Is4In6() {
			ip := literal.As16()
			return fmt.Sprintf("[::ffff:%x:%x]", uint(ip[12])<<8|uint(ip[13]), uint(ip[14])<<8|uint(ip[15])), literal, nil
		}
		return "[" + literal.String() + "]", literal, nil
	}
	name, err := mapping.ToASCII(Unescape(text))
	isForbidden := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(forbidden, r) }
	if err != nil || strings.ContainsFunc(name, isForbidden) {
		return "", netip.Addr{}, errors.New("invalid international domain name")
	}
	if name = strings.ToLower(name); name == "" {
		return "", netip.Addr{}, errors.New("empty host")
	}
	parts := strings.Split(strings.TrimSuffix(name, "."), ".")
	if !isNumber(parts[len(parts)-1]) {
		return name, netip.Addr{}, nil
	}
	literal, err := parseIPv4(parts)
	return literal.String(), literal, err
}

// isNumber reports whether the last part of a host is a number, so that the host must be a valid IPv4 address.
func isNumber(part string) bool {
	digits := part != "" && strings.Trim(part, "0123456789") == ""
	_, err := parseNumber(part)
	return digits || err == nil
}

// parseIPv4 parses an address of one to four numbers; the last one stands for all remaining bytes.
func parseIPv4(parts []string) (netip.Addr, error) {
	invalid := errors.New("invalid IPv4 address")
	if len(parts) > 4 {
		return netip.Addr{}, invalid
	}
	var address uint64
	for i, part := range parts {
		number, err := parseNumber(part)
		limit, shift := uint64(1<<8), 8*(3-i)
		if i == len(parts)-1 {
			limit, shift = 1<<(8*(4-i)), 0
		}
		if err != nil || number >= limit {
			return netip.Addr{}, invalid
		}
		address += number << shift
	}
	return netip.AddrFrom4([4]byte{byte(address >> 24), byte(address >> 16), byte(address >> 8), byte(address)}), nil
}

// parseNumber parses a decimal, octal (0…) or hexadecimal (0x…) number.
func parseNumber(text string) (uint64, error) {
	base := 10
	switch {
	case text == "":
		return 0, strconv.ErrSyntax
	case strings.HasPrefix(strings.ToLower(text), "0x"):
		base, text = 16, text[2:]
	case len(text) > 1 && text[0] == '0':
		base, text = 8, text[1:]
	}
	if text == "" {
		return 0, nil
	}
	number, err := strconv.ParseUint(text, base, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 1 << 32, nil // Out of range for every part of an address.
	}
	return number, err
}

// withPath returns a URL whose path is sent unchanged, even if package net/url would escape it differently.
func withPath(scheme, host, path string) (*url.URL, error) {
	if path == "" {
		path = "/"
	}
	made, err := url.Parse(scheme + "://" + host + path)
	if err != nil {
		// A stray % is an error in net/url, but an ordinary character in the URL standard.
		made = &url.URL{Scheme: scheme, Host: host}
	}
	if made.EscapedPath() != path {
		made.Opaque = path
		if strings.HasPrefix(path, "//") {
			made.Opaque = "//" + host + path
		}
	}
	return made, nil
}

// encode percent-encodes the characters that are not allowed in a URL, and those in further.
func encode(text, further string) string {
	var encoded strings.Builder
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>"+further, c) >= 0 {
			fmt.Fprintf(&encoded, "%%%02X", c)
		} else {
			encoded.WriteByte(c)
		}
	}
	return encoded.String()
}
