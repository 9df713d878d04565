package webhook

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tessera.dev/integrations/internal/weburl"
)

// hostile are the known ways to write an address that a webhook must not reach.
var hostile = []string{
	// Loopback, as IPv4 in every notation that some parser accepts.
	"127.0.0.1",
	"127.0.0.1.",
	"127.1",
	"127.0.1",
	"127.255.255.254",
	"127.0.0.2",
	"127.127.127.127",
	"2130706433",
	"0x7f000001",
	"0x7F000001",
	"017700000001",
	"00000017700000001",
	"0x7f.0x0.0x0.0x1",
	"0x7f.1",
	"0177.0.0.1",
	"0177.0.0.01",
	"0177.1",
	"127.0x0.0.1",
	"127.0.0x1",
	"0x7f.0.1",
	"127.00.00.01",
	"0300.0250.0.1",
	"127.65535",
	"0x7f.16777215",
	"%31%32%37.0.0.1",
	"127%2e0%2e0%2e1",
	"①②⑦.⓪.⓪.①",
	"127。0。0。1",
	"127．0．0．1",
	"１２７.0.0.1",
	// This machine by name.
	"localhost",
	"LOCALHOST",
	"localhost.",
	"LocalHost.",
	"a.localhost",
	"x.y.localhost.",
	"%6cocalhost",
	"ｌocalhost",
	"loc\u00adalhost",
	"metadata.localhost",
	// This network, private, shared, link-local and metadata.
	"0.0.0.0",
	"0",
	"0x0",
	"00",
	"0.1.2.3",
	"0.0.0.0.",
	"10.0.0.1",
	"10.1",
	"167772161",
	"0xa000001",
	"012.0.0.1",
	"10.255.255.255",
	"172.16.0.1",
	"172.31.255.255",
	"0xac100001",
	"192.168.0.1",
	"192.168.1",
	"3232235521",
	"0xc0a80001",
	"0300.0xa8.1",
	"100.64.0.1",
	"100.127.255.255",
	"100.100.100.200",
	"169.254.169.254",
	"2852039166",
	"0xa9fea9fe",
	"0251.0376.0251.0376",
	"169.254.43518",
	"169.16689662",
	"169.254.170.2",
	"169.254.0.1",
	"168.63.129.16",
	"2822734096",
	"0xa83f8110",
	// Reserved, documentation, benchmarking, multicast, class E, broadcast.
	"192.0.0.1",
	"192.0.0.192",
	"192.0.2.1",
	"192.31.196.1",
	"192.88.99.1",
	"198.18.0.1",
	"198.19.255.255",
	"198.51.100.7",
	"203.0.113.9",
	"224.0.0.1",
	"239.255.255.250",
	"240.0.0.1",
	"250.1.2.3",
	"255.255.255.255",
	"4294967295",
	"0xffffffff",
	// IPv6 proper.
	"[::]",
	"[::0]",
	"[0:0:0:0:0:0:0:0]",
	"[::1]",
	"[0:0:0:0:0:0:0:1]",
	"[0000:0000::0001]",
	"[fc00::1]",
	"[fd00:ec2::254]",
	"[fdff::1]",
	"[fe80::1]",
	"[febf::1]",
	"[fec0::1]",
	"[feff::1]",
	"[ff02::1]",
	"[ff0e::1]",
	"[100::1]",
	"[2001:2::1]",
	"[2001:db8::1]",
	"[3fff::1]",
	"[5f00::1]",
	"[4000::1]",
	"[200::1]",
	// IPv4 inside IPv6.
	"[::ffff:127.0.0.1]",
	"[::ffff:7f00:1]",
	"[::FFFF:169.254.169.254]",
	"[0:0:0:0:0:ffff:10.0.0.1]",
	"[::ffff:8.8.8.8]",
	"[::127.0.0.1]",
	"[::7f00:1]",
	"[::8.8.8.8]",
	"[::ffff:0:127.0.0.1]",
	"[64:ff9b::127.0.0.1]",
	"[64:ff9b::a9fe:a9fe]",
	"[64:ff9b:1::127.0.0.1]",
	"[64:ff9b:1:fffe::10.0.0.1]",
	"[2002:7f00:1::]",
	"[2002:a9fe:a9fe::1]",
	"[2002:808:808::1]",
	"[2001:0:4136:e378:8000:63bf:80ff:fffe]",
	"[2001::1]",
}

func TestNoHostileFormOfAnAddressIsAllowed(t *testing.T) {
	parsed := 0
	for _, host := range hostile {
		for _, text := range []string{"http://" + host + "/", "https://" + host + ":8443/hook?q=1"} {
			url, err := weburl.Parse(text)
			if err != nil {
				continue // A text that is not accepted as an address cannot be dialled as one either.
			}
			parsed++
			isMachine := strings.TrimSuffix(url.Hostname(), ".")
			if isMachine == "localhost" || strings.HasSuffix(isMachine, ".localhost") {
				continue // A name: its addresses are checked when it is dialled.
			}
			if !url.Literal.IsValid() {
				t.Errorf("%s is %s and would go to the resolver", text, url)
			} else if (Guard{}).Check(url.Literal) == nil {
				t.Errorf("%s is %s and was let through", text, url)
			}
		}
	}
	if parsed < 2*120 {
		t.Errorf("only %d of the forms are URLs", parsed/2)
	}
}

func TestTheEdgesOfRefusedNetworksAreExact(t *testing.T) {
	for _, public := range []string{
		"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0",
		"192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111",
		"2001:4860:4860::8888", "2a00:1450::1", "2001:200::1", "2003::1",
	} {
		if err := (Guard{}).Check(netip.MustParseAddr(public)); err != nil {
			t.Errorf("%s: %v", public, err)
		}
	}
	for _, network := range slices.Concat(refusedV4, refusedV6) {
		if (Guard{}).Check(network.Addr()) == nil || (Guard{}).Check(last(network.Prefix)) == nil {
			t.Errorf("%s is not refused to its edges", network)
		}
	}
}

// last returns the last address of a network.
func last(network netip.Prefix) netip.Addr {
	bytes := network.Addr().AsSlice()
	for i := range bytes {
		for bit := range 8 {
			if i*8+bit >= network.Bits() {
				bytes[i] |= 0x80 >> bit
			}
		}
	}
	ip, _ := netip.AddrFromSlice(bytes)
	return ip
}

func TestARefusalNamesTheSettingAndTheValueThatWouldAllowIt(t *testing.T) {
	for text, words := range map[string]string{
		"127.0.0.1": `127.0.0.1 is a loopback address, which webhooks may not reach; to allow it, add "127.0.0.1/32" to ` +
			`--allow (TESSERA_WEBHOOK_ALLOW) of the webhook connector`,
		"::ffff:10.0.0.7":        `add "10.0.0.7/32" to --allow`,
		"fd00::7":                `add "fd00::7/128" to --allow`,
		"::127.0.0.1":            "::7f00:1 is the IPv4-compatible form of 127.0.0.1, which",
		"64:ff9b::a00:1":         "64:ff9b::a00:1 is the NAT64 form of 10.0.0.1, which",
		"fe80::1%eth0":           `add "fe80::1/128"`,
		"4000::1":                "an address outside the public Internet",
		"::ffff:8.8.8.8":         "8.8.8.8 is an IPv4 address mapped into IPv6, which",
		"2001:0:1:2:3:4:f5ff:fe": "the Teredo form of 10.0.255.1,",
	} {
		err := (Guard{}).Check(netip.MustParseAddr(text))
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTheNetworkInARefusalAllowsTheAddress(t *testing.T) {
	refusals := 0
	for _, host := range hostile {
		url, err := weburl.Parse("http://" + host + "/")
		if err != nil || !url.Literal.IsValid() {
			continue
		}
		var refused, inner *Refused
		if !errors.As((Guard{}).Check(url.Literal), &refused) {
			t.Errorf("%s is not refused", host)
			continue
		}
		refusals++
		guard := Guard{single(refused.IP)}
		// A form that embeds a refused IPv4 address must be allowed twice, once in each notation.
		if errors.As(guard.Check(refused.IP), &inner) {
			if !refused.IP.Is6() || !inner.IP.Is4() {
				t.Errorf("%s: %v", host, inner)
			}
			guard = append(guard, single(inner.IP))
		}
		if err := guard.Check(refused.IP); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if refusals <= 100 {
		t.Errorf("only %d refusals", refusals)
	}
}

func single(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, ip.BitLen()) }

func nets(texts ...string) Guard {
	var guard Guard
	for _, text := range texts {
		guard = append(guard, netip.MustParsePrefix(text))
	}
	return guard
}

func TestTheAllowListTakesPrecedenceAndIsExact(t *testing.T) {
	local := nets("127.0.0.0/8", "10.1.0.0/16", "fd00:1::/32")
	translated := nets("64:ff9b::/96")
	for _, c := range []struct {
		guard Guard
		ip    string
		isLet bool
	}{
		{local, "127.0.0.1", true}, {local, "127.9.9.9", true}, {local, "10.1.2.3", true},
		{local, "::ffff:127.0.0.1", true}, {local, "fd00:1::5", true},
		{local, "10.2.0.1", false}, {local, "::1", false}, {local, "fd00:2::5", false}, {local, "169.254.169.254", false},
		{local, "::ffff:10.2.0.1", false}, {local, "64:ff9b::127.0.0.1", false},
		{translated, "64:ff9b::8.8.8.8", true}, {translated, "64:ff9b::127.0.0.1", false},
	} {
		if err := c.guard.Check(netip.MustParseAddr(c.ip)); (err == nil) != c.isLet {
			t.Errorf("%v and %s: %v", c.guard, c.ip, err)
		}
	}
}

func TestAllowingAnEmbeddingFormDoesNotAllowTheEmbeddedAddress(t *testing.T) {
	for _, c := range []struct{ form, hidden, public string }{
		{"::/96", "::127.0.0.1", "::8.8.8.8"},
		{"64:ff9b::/96", "64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8"},
		{"64:ff9b:1::/48", "64:ff9b:1:fffe::127.0.0.1", "64:ff9b:1::8.8.8.8"},
		{"::ffff:0:0:0/96", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"},
		{"2002::/16", "2002:7f00:1::", "2002:808:808::"},
		{"2001::/32", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:0:4136:e378:8000:63bf:f7f7:f7f7"},
	} {
		guard := nets(c.form)
		var refused *Refused
		if !errors.As(guard.Check(netip.MustParseAddr(c.hidden)), &refused) || refused.IP.String() != "127.0.0.1" {
			t.Errorf("%s: %v", c.hidden, refused)
		}
		if err := guard.Check(netip.MustParseAddr(c.public)); err != nil {
			t.Errorf("%s: %v", c.public, err)
		}
	}
}

// knows returns a resolver that returns its answers one after the other, and then the last one forever.
func knows(answers ...[]string) func(context.Context, string) ([]netip.Addr, error) {
	return func(context.Context, string) ([]netip.Addr, error) {
		answer := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		var ips []netip.Addr
		for _, ip := range answer {
			ips = append(ips, netip.MustParseAddr(ip))
		}
		return ips, nil
	}
}

func TestOnlyAllowedAddressesAreDialledWhateverTheResolverReturns(t *testing.T) {
	flipping := &dialer{resolve: knows([]string{"10.0.0.1", "1.1.1.1", "::1"}, []string{"10.0.0.1", "169.254.169.254"}, nil)}
	first, err := flipping.addresses(t.Context(), "rebind.example")
	if err != nil || len(first) != 1 || first[0].String() != "1.1.1.1" {
		t.Errorf("first: %v, %v", first, err)
	}
	var refused *Refused
	if _, err = flipping.addresses(t.Context(), "rebind.example"); !errors.As(err, &refused) || refused.IP.String() != "169.254.169.254" {
		t.Errorf("the second answer: %v", err)
	}
	if _, err = flipping.addresses(t.Context(), "rebind.example"); err == nil || errors.As(err, &refused) {
		t.Errorf("the third answer: %v", err)
	}
}

func FuzzAnIPv4AddressHidesInNoForm(f *testing.F) {
	f.Add(uint32(0x7f000001))
	f.Fuzz(func(t *testing.T, bits uint32) {
		inner := v4(bits)
		if (Guard{}).Check(inner) == nil {
			return
		}
		four := binary.BigEndian.AppendUint32(nil, bits)
		form := func(prefix string, at int) netip.Addr {
			bytes := netip.MustParseAddr(prefix).As16()
			copy(bytes[at:], four)
			return netip.AddrFrom16(bytes)
		}
		all := nets("::/0")
		for _, ip := range []netip.Addr{
			form("::ffff:0:0", 12), form("64:ff9b::", 12), form("64:ff9b:1::", 12), form("::ffff:0:0:0", 12), form("2002::", 2),
		} {
			if (Guard{}).Check(ip) == nil {
				t.Errorf("%s is let through", ip)
			}
			if all.Check(ip) == nil {
				t.Errorf("%s is let through by who allows all of IPv6", ip)
			}
		}
	})
}
