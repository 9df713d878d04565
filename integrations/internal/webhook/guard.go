package webhook

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// setting lets addresses through.
const setting = "--allow (TESSERA_WEBHOOK_ALLOW) of the webhook connector"

// A network is one that holds no public receiver, and what its addresses are.
type network struct {
	netip.Prefix
	reason string
}

// refusedV4 are the IPv4 addresses that are no public receiver.
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

// refusedV6 are those of IPv6, besides the forms that hold an IPv4 address and all outside of globalV6.
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

// globalV6 is the part of IPv6 that is handed out to the public Internet.
var globalV6 = netip.MustParsePrefix("2000::/3")

// Refused says why an address may not be reached.
type Refused struct {
	// IP is the address as an operator would have to allow it: an IPv4 address that came wrapped in IPv6 stands unwrapped.
	IP netip.Addr
	// Reason is what kind of address it is.
	Reason string
}

func (r *Refused) Error() string {
	return fmt.Sprintf("%s is %s, which webhooks may not reach; to allow it, add \"%s\" to %s",
		r.IP, r.Reason, netip.PrefixFrom(r.IP, r.IP.BitLen()), setting)
}

// A Guard is what webhooks may reach: every public address, and the networks that the operator allows besides.
type Guard []netip.Prefix

// Check tells whether an address may be reached; the error is a *Refused.
//
// A mapped address (::ffff:127.0.0.1) is dialled as the IPv4 address inside it, so that one has to be allowed. A
// compatible, NAT64, 6to4 or Teredo address needs an entry of its own, and the IPv4 address inside it must be one that may
// be reached: whoever allows 64:ff9b::/96 so that a network without IPv4 can reach the world has not allowed 127.0.0.1 by it.
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

// embedded returns the IPv4 address that a translator or tunnel would send to, and the name of the form; no name when the
// address is of no such form.
func embedded(ip netip.Addr) (netip.Addr, string) {
	bytes := ip.As16()
	high, low := binary.BigEndian.Uint64(bytes[:8]), binary.BigEndian.Uint64(bytes[8:])
	last := v4(uint32(low))
	switch {
	case high == 0 && low <= 1: // :: and ::1 are themselves.
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
	case high>>32 == 0x2001_0000: // Teredo keeps the client's address with every bit turned over.
		return v4(^uint32(low)), "Teredo"
	}
	return netip.Addr{}, ""
}

func v4(bits uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, bits)))
}
