package weburl

import (
	"testing"
)

func TestURLsAreParsedAsBrowsersDo(t *testing.T) {
	for _, c := range []struct{ text, host, target string }{
		{"http://example.org", "example.org", "/"},
		{"HTTP://Example.ORG:80/Hook?q=1#part", "example.org", "/Hook?q=1"},
		{"https://example.org:443/", "example.org", "/"},
		{"https://example.org:8443/a/b?", "example.org:8443", "/a/b?"},
		{"https://example.org:/", "example.org", "/"},
		{" http:\\\\example.org\\a ", "example.org", "/a"},
		{"http://user:pass@example.org/", "example.org", "/"},
		{"http://example.org/ü ü?q=ü ü'\"<>", "example.org", "/%C3%BC%20%C3%BC?q=%C3%BC%20%C3%BC%27%22%3C%3E"},
		{"http://example.org/a%2Fb|c/%zz", "example.org", "/a%2Fb|c/%zz"},
		{"http://example.org/a%2Fb?c%2Fd", "example.org", "/a%2Fb?c%2Fd"},
		{"http://bücher.example/", "xn--bcher-kva.example", "/"},
		{"http://a_b.example./", "a_b.example.", "/"},
		{"http://0x7f.1:9000/hook", "127.0.0.1:9000", "/hook"},
		{"http://①②⑦.⓪.⓪.①/", "127.0.0.1", "/"},
		{"http://[::FFFF:127.0.0.1]:81/", "[::ffff:7f00:1]:81", "/"},
		{"http://[2001:0db8::0001]/", "[2001:db8::1]", "/"},
	} {
		parsed, err := Parse(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if parsed.Host != c.host || parsed.RequestURI() != c.target || parsed.User != nil {
			t.Errorf("%q is %q %q", c.text, parsed.Host, parsed.RequestURI())
		}
	}
}

func TestInvalidURLsAreRejected(t *testing.T) {
	for _, text := range []string{
		"", "no url", "/path", "http://", "http:///", "ftp://example.org/", "http://a b/", "http://a%20b/", "http://a<b/",
		"http://example.org:port/", "http://example.org:65536/", "http://example.org:+80/", "http://[::1/", "http://[::1%25eth0]/",
		"http://[127.0.0.1]/", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://4294967296/", "http://1.2.3.09/", "http://a.0x1g.1/",
		"http://99999999999999999999999/",
	} {
		if parsed, err := Parse(text); err == nil {
			t.Errorf("%q is %v", text, parsed)
		}
	}
}

func TestUnescapingKeepsInvalidEscapes(t *testing.T) {
	for text, want := range map[string]string{"a%40b": "a@b", "%": "%", "%4": "%4", "%zz%41": "%zzA", "100%": "100%", "%2": "%2"} {
		if got := Unescape(text); got != want {
			t.Errorf("%q is %q", text, got)
		}
	}
}
