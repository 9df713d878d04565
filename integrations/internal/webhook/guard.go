package webhook

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// setting is the name of the setting that allows addresses, for messages.
const setting = "--allow (TESSERA_WEBHOOK_ALLOW) of the webhook connector"

// A network contains no public receivers; reason describes its addresses.
type network struct {
	netip.Prefix
	reason string
}

// refusedV4 are the IPv4 networks without public receivers.
var refusedV4 = []network{
	{netip.MustParsePrefix("0.0.0.0/8"), `an address of "this network"`},
	{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a shared (carrier-grade NAT) address"},
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the platform address of a cloud"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local (cloud metadata) address"},
	{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
	{netip.MustParsePrefix("192.0.0.0/24"), "an address reserved for protocols"},
	{netip.MustParsePrefix("192.0.2.0/24"), "a documentation address"},
	{netip.MustParsePrefix("192.31.196.0/24"), "an address reserved for protocols"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a 6to4 relay address"},
	{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
	{netip.MustParsePrefix("198.18.0.0/15"), "a benchmarking address"},
	{netip.MustParsePrefix("198.51.100.0/24"), "a documentation address"},
	{netip.MustParsePrefix("203.0.113.0/24"), "a documentation address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("255.255.255.255/32"), "the broadcast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved (class E) address"},
}

// refusedV6 are the IPv6 networks without public receivers, in addition to the forms that embed an IPv4 address and to
// everything outside globalV6.
var refusedV6 = []network{
	{netip.MustParsePrefix("::/128"), "the unspecified address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("fc00::/7"), "a unique local address"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("fec0::/10"), "a site-local address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
	{netip.MustParsePrefix("100::/64"), "a discard address"},
	{netip.MustParsePrefix("2001::/23"), "an address reserved for protocols"},
	{netip.MustParsePrefix("2001:db8::/32"), "a documentation address"},
	{netip.MustParsePrefix("3fff::/20"), "a documentation address"},
	{netip.MustParsePrefix("5f00::/16"), "a segment routing address"},
}

// globalV6 is the part of IPv6 that is allocated to the public Internet.
var globalV6 = netip.MustParsePrefix("2000::/3")

// Refused is the error for an address that webhooks may not reach.
type Refused struct {
	// IP is the address in the form in which an operator can allow it: a mapped IPv4 address is unmapped.
	IP netip.Addr
	// Reason describes the kind of address.
	Reason string
}

func (r *Refused) Error() string {
	return fmt.Sprintf("%s is %s, which webhooks may not reach; to allow it, add \"%s\" to %s",
		r.IP, r.Reason, netip.PrefixFrom(r.IP, r.IP.BitLen()), setting)
}

// A Guard decides which addresses webhooks may reach: every public address, and the networks in the Guard.
type Guard []netip.Prefix

// Check returns a *Refused error if webhooks may not reach an address.
//
// A mapped address (::ffff:127.0.0.1) is dialled as the embedded IPv4 address, so that address must be allowed. An
// IPv4-compatible, NAT64, 6to4 or Teredo address must be allowed itself, and the embedded IPv4 address must be reachable,
// too: allowing 64:ff9b::/96 so that a network without IPv4 can reach the Internet does not allow 127.0.0.1.
func (g Guard) Check(ip netip.Addr) error {
	ip = ip.WithZone("")
	if ip.Is4In6() {
		return g.unlessAllowed(ip.Unmap(), "an IPv4 address mapped into IPv6")
	}
	if ip.Is4() {
		return g.checkNetworks(ip, refusedV4)
	}
	if inner, form := embedded(ip); form != "" {
		if err := g.unlessAllowed(ip, fmt.Sprintf("the %s form of %s", form, inner)); err != nil {
			return err
		}
		return g.checkNetworks(inner, refusedV4)
	}
	if err := g.checkNetworks(ip, refusedV6); err != nil || globalV6.Contains(ip) {
		return err
	}
	return g.unlessAllowed(ip, "an address outside the public Internet")
}

func (g Guard) checkNetworks(ip netip.Addr, refused []network) error {
	for _, network := range refused {
		if network.Contains(ip) {
			return g.unlessAllowed(ip, network.reason)
		}
	}
	return nil
}

func (g Guard) unlessAllowed(ip netip.Addr, reason string) error {
	for _, allowed := range g {
		if allowed.Contains(ip) {
			return nil
		}
	}
	return &Refused{IP: ip, Reason: reason}
}

// embedded returns the IPv4 address that a translator or tunnel would send to, and the name of the form; the name is empty if
// the address embeds none.
func embedded(ip netip.Addr) (netip.Addr, string) {
	bytes := ip.As16()
	high, low := binary.BigEndian.Uint64(bytes[:8]), binary.BigEndian.Uint64(bytes[8:])
	last := v4(uint32(low))
	switch {
	case high == 0 && low <= 1: // :: and ::1 embed no address.
		return netip.Addr{}, ""
	case high == 0 && low>>32 == 0:
		return last, "IPv4-compatible"
	case high == 0x0064_ff9b_0000_0000 && low>>32 == 0:
		return last, "NAT64"
	case high>>16 == 0x0064_ff9b_0001:
		return last, "local NAT64"
	case high == 0 && low>>32 == 0xffff_0000:
		return last, "translated"
	case high>>48 == 0x2002:
		return v4(uint32(high >> 16)), "6to4"
	case high>>32 == 0x2001_0000: // Teredo inverts the bits of the client's address.
		return v4(^uint32(low)), "Teredo"
	}
	return netip.Addr{}, ""
}

func v4(bits uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, bits)))
}
