package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// short is the deadline for responses that never come, and long the deadline if their beginning has to come.
	short, long = 400 * time.Millisecond, 3 * time.Second
	// patience is how long a test waits for an event that must happen.
	patience = time.Minute
	id       = "00000000-0000-0000-0000-000000000007"
	key      = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// loopback returns a transport that may reach this machine, and that resolves every name to it.
func loopback() *Transport {
	return reaching(nets("127.0.0.0/8"), "127.0.0.1")
}

func reaching(guard Guard, address ...string) *Transport {
	transport := newTransport(&dialer{guard: guard, resolve: knows(address)}, "tessera/0.0.0")
	transport.now = func() time.Time { return now }
	return transport
}

func within(deadline time.Duration) *Transport {
	transport := loopback()
	transport.deadline = deadline
	return transport
}

func hook(url string) *tesserav1.WebhookRequest {
	return &tesserav1.WebhookRequest{
		Method: "POST", Url: url, Body: []byte(`{"ticket":1,"subject":"ü"}`),
		Headers: []*tesserav1.Header{{Name: "Content-Type", Value: "application/json"}},
	}
}

// receiver accepts one connection, reads a request with its body, and passes the socket to answer. It returns its address and
// the request.
func receiver(t *testing.T, answer func(net.Conn)) (string, <-chan string) {
	t.Helper()
	listener := listen(t)
	requests := make(chan string, 1)
	go func() {
		defer close(requests)
		socket, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = socket.Close() }()
		var got []byte
		for buffer := make([]byte, 4096); !complete(got); {
			n, err := socket.Read(buffer)
			if err != nil {
				return
			}
			got = append(got, buffer[:n]...)
		}
		requests <- string(got)
		answer(socket)
	}()
	return listener.Addr().String(), requests
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.(*net.TCPListener)
}

var contentLength = regexp.MustCompile(`(?i)\r\ncontent-length: (\d+)\r\n`)

func complete(request []byte) bool {
	head, body, found := bytes.Cut(request, []byte("\r\n\r\n"))
	length := 0
	if match := contentLength.FindSubmatch(append(head, "\r\n"...)); match != nil {
		_, _ = fmt.Sscan(string(match[1]), &length)
	}
	return found && len(body) >= length
}

func answers(t *testing.T, answer string) (string, <-chan string) {
	t.Helper()
	return receiver(t, func(socket net.Conn) { _, _ = io.WriteString(socket, answer) })
}

func reply(status, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s", status, len(body), body)
}

// isUntouched reports whether there was no connection to a listener so far.
func isUntouched(listener *net.TCPListener) bool {
	_ = listener.SetDeadline(time.Now().Add(time.Millisecond))
	_, err := listener.Accept()
	return err != nil
}

func TestARequestIsSignedAndComplete(t *testing.T) {
	address, requests := answers(t, reply("202 Whatever", "thanks"))
	webhook := hook("http://hooks.example:" + address[strings.LastIndex(address, ":")+1:] + "/in?q=1")
	webhook.SigningKey, webhook.Secrets = key, map[string]string{"sign": key}
	made := loopback().Send(t.Context(), id, webhook)
	if made.Outcome != attempt.Delivered || made.StatusCode != 202 || made.Detail != "202 Accepted" || made.Response != "thanks" {
		t.Errorf("%+v", made)
	}
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(<-requests)))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(request.Body)
	for name, want := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "tessera/0.0.0", "Webhook-Id": id, "Accept": "*/*",
		"Webhook-Timestamp": "1795435200", "Accept-Encoding": "",
		"Webhook-Signature": sign(mustKey(t), id, 1795435200, body),
	} {
		if got := request.Header.Get(name); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
	if request.RequestURI != "/in?q=1" || !strings.HasPrefix(request.Host, "hooks.example:") || string(body) != string(webhook.Body) {
		t.Errorf("%s %s %s", request.RequestURI, request.Host, body)
	}
}

func mustKey(t *testing.T) []byte {
	t.Helper()
	parsed, err := parseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestTheTestVectorOfStandardWebhooks(t *testing.T) {
	got := sign(mustKey(t), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, []byte(`{"test": 2432232314}`))
	if got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Error(got)
	}
}

func TestAnInvalidSigningSecretIsRejectedAndNotShown(t *testing.T) {
	of := func(length int) string {
		return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, length))
	}
	for secret, why := range map[string]string{
		"canary": "does not begin", "whsec_canary!": "not base64", of(23): "23 bytes", of(65): "65 bytes",
		of(24)[:20] + "\n" + of(24)[20:]: "not base64",
	} {
		_, err := parseKey(secret)
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", secret, err)
		}
	}
	for _, length := range []int{24, 64} {
		if _, err := parseKey(of(length)); err != nil {
			t.Error(err)
		}
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"0": 0, "120": 120, " 7 ": 7, "007": 7, "99999999999999999999999": 1<<32 - 1, "9999999999999": 1<<32 - 1,
		"Mon, 23 Nov 2026 12:02:00 GMT": 120, "Mon, 23 Nov 2026 13:00:00 +0100": 0, "Mon, 23 Nov 2026 11:00:00 GMT": 0,
		"Sun, 06 Nov 1994 08:49:37 GMT": 0, "": 0, "-5": 0, "+5": 0, "1.5": 0, "soon": 0, "2026-11-23T12:02:00Z": 0, "5, 6": 0,
	} {
		if got := retryAfter(value, now); got != want*time.Second {
			t.Errorf("%q: %s", value, got)
		}
	}
}

func TestARedirectToAMetadataAddressIsNotFollowed(t *testing.T) {
	elsewhere := listen(t)
	address, requests := answers(t, "HTTP/1.1 301 Moved Permanently\r\nlocation: http://"+elsewhere.Addr().String()+
		"/latest/meta-data\r\ncontent-length: 0\r\n\r\n")
	made := loopback().Send(t.Context(), id, hook("http://"+address+"/"))
	if made.Outcome != attempt.Retry || !strings.Contains(made.Detail, "redirects are not followed") {
		t.Errorf("%+v", made)
	}
	<-requests
	if !isUntouched(elsewhere) {
		t.Error("somebody followed the redirect")
	}
}

func TestTheGuardRefusesLiteralAddressesAndResolvedNames(t *testing.T) {
	listener := listen(t)
	port := listener.Addr().(*net.TCPAddr).Port
	transport := reaching(nil, "127.0.0.1")
	for _, host := range []string{
		"127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]", "rebind.example", "127.0.0.1.nip.example", "localhost", "2130706433", "%6cocalhost",
	} {
		for _, scheme := range []string{"http", "https"} {
			made := transport.Send(t.Context(), id, hook(fmt.Sprintf("%s://%s:%d/", scheme, host, port)))
			if made.Outcome != attempt.Retry || made.Health != attempt.Unknown || made.Wait != 0 ||
				!strings.Contains(made.Detail, `add "127.0.0.1/32" to --allow`) {
				t.Errorf("%s: %+v", host, made)
			}
		}
	}
	if !isUntouched(listener) {
		t.Error("a refused address was dialled")
	}
}

func TestAProxyInTheEnvironmentIsNotUsed(t *testing.T) {
	proxy := listen(t)
	t.Setenv("HTTP_PROXY", "http://"+proxy.Addr().String())
	t.Setenv("ALL_PROXY", "http://"+proxy.Addr().String())
	address, _ := answers(t, reply("200 OK", ""))
	if made := loopback().Send(t.Context(), id, hook("http://h.example:"+address[strings.LastIndex(address, ":")+1:])); made.Outcome != attempt.Delivered {
		t.Errorf("%+v", made)
	}
	if !isUntouched(proxy) {
		t.Error("the proxy was asked")
	}
}

func TestOnlyARequestThatWasSentCanFailTheEndpoint(t *testing.T) {
	gone := listen(t)
	_ = gone.Close()
	made := loopback().Send(t.Context(), id, hook("http://"+gone.Addr().String()+"/?key=1"))
	if made.Health != attempt.Fails || made.Wait != 0 || made.StatusCode != 0 || made.Outcome != attempt.Retry ||
		!strings.HasPrefix(made.Detail, "could not connect: ") || !strings.Contains(made.Detail, "refused") {
		t.Errorf("%+v", made)
	}
	silent := listen(t)
	made = within(short).Send(t.Context(), id, hook("http://"+silent.Addr().String()))
	if made.Health != attempt.Fails || made.Wait != time.Minute || made.Detail != "no answer within 0.4 s" {
		t.Errorf("%+v", made)
	}
	for _, url := range []string{"http://10.0.0.1/", "no url"} {
		if made := loopback().Send(t.Context(), id, hook(url)); made.Health != attempt.Unknown {
			t.Errorf("%s: %+v", url, made)
		}
	}
	unresolved := loopback()
	unresolved.client.DialContext = (&dialer{resolve: func(context.Context, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "h.example", IsNotFound: true}
	}}).dial
	made = unresolved.Send(t.Context(), id, hook("http://h.example/"))
	if made.Health != attempt.Fails || made.Wait != 0 || !strings.HasPrefix(made.Detail, "could not connect: ") {
		t.Errorf("%+v", made)
	}
}

func TestConnectingHasItsOwnTimeout(t *testing.T) {
	transport := loopback()
	transport.client.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return connected(ctx, func(ctx context.Context) (net.Conn, error) {
			// The error of an operating system whose own timeout has passed.
			return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
		})
	}
	made := transport.Send(t.Context(), id, hook("http://h.example/"))
	if made.Detail != "could not connect within 5 s" || made.Wait != time.Minute || made.Health != attempt.Fails {
		t.Errorf("%+v", made)
	}
}

func TestAReceiverThatNeverRespondsIsAbandonedAtTheDeadline(t *testing.T) {
	left := make(chan error, 1)
	address, _ := receiver(t, func(socket net.Conn) {
		_, err := socket.Read(make([]byte, 1))
		left <- err
	})
	made := within(short).Send(t.Context(), id, hook("http://"+address+"/"))
	if made.Outcome != attempt.Retry || made.Detail != "no answer within 0.4 s" {
		t.Errorf("%+v", made)
	}
	select {
	case <-left:
	case <-time.After(patience):
		t.Error("the connection was not closed")
	}
}

func TestABodyThatNeverEndsIsAbandonedAtTheDeadline(t *testing.T) {
	for status, outcome := range map[string]tesserav1.Outcome{"200 OK": attempt.Delivered, "500 Oh": attempt.Retry} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			ended := make(chan struct{})
			address, _ := receiver(t, func(socket net.Conn) {
				defer close(ended)
				_, err := io.WriteString(socket, "HTTP/1.1 "+status+"\r\ntransfer-encoding: chunked\r\n\r\n")
				for tick := time.NewTicker(10 * time.Millisecond); err == nil; <-tick.C {
					_, err = io.WriteString(socket, "1\r\nx\r\n")
				}
			})
			made := within(long).Send(t.Context(), id, hook("http://"+address+"/"))
			if made.Outcome != outcome || !strings.HasSuffix(made.Detail, "; the response body did not end in time") ||
				!strings.HasPrefix(made.Response, "x") {
				t.Errorf("%+v", made)
			}
			select {
			case <-ended:
			case <-time.After(patience):
				t.Error("the connection was not closed")
			}
		})
	}
}

func TestAnEndlessBodyIsReadUpToTheLimit(t *testing.T) {
	ended := make(chan struct{})
	address, _ := receiver(t, func(socket net.Conn) {
		defer close(ended)
		_, err := io.WriteString(socket, "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
		for flood := bytes.Repeat([]byte("x"), 16*1024); err == nil; {
			_, err = socket.Write(flood)
		}
	})
	made := loopback().Send(t.Context(), id, hook("http://"+address+"/"))
	if made.Outcome != attempt.Delivered || made.Detail != "200 OK; the response body exceeds the read limit" ||
		len(made.Response) != attempt.ExcerptMax {
		t.Errorf("%s, %d bytes", made.Detail, len(made.Response))
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the connection was not closed")
	}
}

func TestABodyIsReadUpToTheLimitAndNotBeyond(t *testing.T) {
	for length, cut := range map[int]string{readMax - 1: "", readMax: "", readMax + 9: "; the response body exceeds the read limit"} {
		body, said := read(t.Context(), strings.NewReader(strings.Repeat("x", length)))
		if len(body) != min(length, readMax) || said != cut {
			t.Errorf("%d: %d bytes%s", length, len(body), said)
		}
	}
}

func TestErrorsOfLibrariesContainNoSecret(t *testing.T) {
	address, _ := answers(t, "HTTP/1.1 canary\r\n\r\n")
	webhook := hook("http://" + address + "/")
	webhook.Secrets = map[string]string{"token": "canary"}
	if made := loopback().Send(t.Context(), id, webhook); strings.Contains(made.Detail, "canary") {
		t.Errorf("%+v", made)
	}
}

func TestConnectionsAreReusedAndHTTP2IsSupported(t *testing.T) {
	connections, protocols := map[string]bool{}, map[string]bool{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections[r.RemoteAddr], protocols[r.Proto] = true, true
		_, _ = io.WriteString(w, r.RequestURI)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	transport := newTransport(&dialer{guard: nets("127.0.0.0/8"), resolve: knows([]string{"127.0.0.1"}), roots: roots}, "t")
	defer transport.Close()
	for range 3 {
		made := transport.Send(t.Context(), id, hook(strings.Replace(server.URL, "127.0.0.1", "example.com", 1)+"/a%2Fb|c"))
		if made.Outcome != attempt.Delivered || made.Response != "/a%2Fb|c" {
			t.Errorf("%+v", made)
		}
	}
	if len(connections) != 1 || !protocols["HTTP/2.0"] {
		t.Errorf("%v %v", connections, protocols)
	}
	made := loopback().Send(t.Context(), id, hook(server.URL))
	if made.Outcome != attempt.Retry || made.Health != attempt.Fails || !strings.HasPrefix(made.Detail, "could not connect: ") ||
		!strings.Contains(made.Detail, "certificate") {
		t.Errorf("%+v", made)
	}
}

func TestAnAddressThatDoesNotRespondIsSkipped(t *testing.T) {
	address, _ := answers(t, reply("200 OK", ""))
	port := address[strings.LastIndex(address, ":")+1:]
	for _, addresses := range [][]string{{"127.0.0.2", "127.0.0.1"}, {"::1", "127.0.0.1"}, {"127.0.0.2", "::1", "127.0.0.1"}} {
		first, other := families(ips(addresses))
		conn, err := race(t.Context(), first, other, port)
		if err != nil {
			t.Errorf("%v: %v", addresses, err)
			continue
		}
		_ = conn.Close()
	}
	first, other := families(ips([]string{"127.0.0.2", "::1"}))
	if _, err := race(t.Context(), first, other, port); err == nil {
		t.Error("somebody answers where nobody listens")
	}
}

func ips(texts []string) []netip.Addr {
	var ips []netip.Addr
	for _, text := range texts {
		ips = append(ips, netip.MustParseAddr(text))
	}
	return ips
}

func TestEveryHostileFormIsRefusedOrAnInvalidURL(t *testing.T) {
	transport := reaching(nil, "127.0.0.1")
	for _, host := range hostile {
		made := transport.Send(t.Context(), id, hook("http://"+host+":9/"))
		if made.Outcome == attempt.Delivered || made.Health != attempt.Unknown {
			t.Errorf("%s: %+v", host, made)
		}
	}
}

func TestAResponseWithManyHeadersIsAResponse(t *testing.T) {
	for _, count := range []int{150, 3000} {
		var headers strings.Builder
		for n := range count {
			_, _ = fmt.Fprintf(&headers, "X-H%d: %s\r\n", n, strings.Repeat("v", 40))
		}
		address, _ := answers(t, "HTTP/1.1 200 OK\r\n"+headers.String()+"content-length: 0\r\nconnection: close\r\n\r\n")
		made := loopback().Send(t.Context(), id, hook("http://"+address+"/"))
		if made.Outcome != attempt.Delivered || made.StatusCode != 200 {
			t.Errorf("%d headers: %+v", count, made)
		}
	}
}

func TestAHeaderOfTheConnectionIsNeverSent(t *testing.T) {
	for _, name := range []string{"Upgrade", "te", "HTTP2-Settings", "Proxy-Connection", "webhook-id"} {
		webhook := hook("http://127.0.0.1:9/")
		webhook.Headers = append(webhook.Headers, &tesserav1.Header{Name: name, Value: "v"})
		made := loopback().Send(t.Context(), id, webhook)
		if made.Outcome != attempt.Permanent || !strings.Contains(made.Detail, name) {
			t.Errorf("%s: %+v", name, made)
		}
	}
}
