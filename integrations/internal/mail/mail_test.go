package mail

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// patience is how long a test waits for an event that must happen.
const patience = time.Minute

// hello is the name that the tests send in EHLO.
const hello = "desk.example.com"

// hangUp is returned by a script to close the connection.
const hangUp = ""

// A script returns the reply of a server to a line, without the last CRLF. The line "." stands for the end of the message, and
// the empty line for the greeting. After "220 TLS" the server starts TLS.
type script func(line string) string

// A mailServer accepts a bare LF as the end of a line, as careless servers do.
type mailServer struct {
	address string
	tls     *tls.Config
	// slipped is what an attacker injects after the reply to STARTTLS.
	slipped string
	// scripts are used one per connection, and the last one for all further connections.
	scripts []script

	mutex sync.Mutex
	heard []string // Commands, and each message as one entry, over all connections.
}

func serve(t *testing.T, scripts ...script) *mailServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &mailServer{address: listener.Addr().String(), scripts: scripts}
	go server.accept(listener)
	t.Cleanup(func() { _ = listener.Close() })
	return server
}

func (s *mailServer) accept(listener net.Listener) {
	for n := 0; ; n++ {
		socket, err := listener.Accept()
		if err != nil {
			return
		}
		go s.talk(socket, s.scripts[min(n, len(s.scripts)-1)])
	}
}

func (s *mailServer) talk(socket net.Conn, script script) {
	defer func() { _ = socket.Close() }()
	lines := bufio.NewReader(socket)
	for next := script(""); next != hangUp; {
		said := next + "\r\n"
		if next == "220 TLS" {
			said += s.slipped
		}
		if _, err := io.WriteString(socket, said); err != nil {
			return
		}
		if next == "220 TLS" {
			socket = tls.Server(socket, s.tls)
			lines = bufio.NewReader(socket)
		}
		line, err := lines.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(next, "354") {
			message := ""
			for ; err == nil && line != "."; line, err = lines.ReadString('\n') {
				if strings.TrimRight(line, "\r\n") == "." {
					break
				}
				message += strings.TrimRight(strings.TrimPrefix(line, "."), "\r\n") + "\r\n"
			}
			line = "."
			if err == nil {
				s.hear(message)
			}
		} else if err == nil {
			s.hear(line)
		}
		if err != nil {
			return
		}
		next = script(line)
	}
}

func (s *mailServer) hear(line string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.heard = append(s.heard, line)
}

// commands returns the commands that the server received so far, without the messages.
func (s *mailServer) commands() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.DeleteFunc(slices.Clone(s.heard), func(line string) bool { return strings.Contains(line, "\n") })
}

func (s *mailServer) messages() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.DeleteFunc(slices.Clone(s.heard), func(line string) bool { return !strings.Contains(line, "\n") })
}

func (s *mailServer) transport(t *testing.T) *Transport {
	t.Helper()
	return s.transportWith(t, "smtp://%s")
}

func (s *mailServer) transportWith(t *testing.T, format string) *Transport {
	t.Helper()
	transport, err := New(fmt.Sprintf(format, s.address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.Close)
	return transport
}

// willing takes everything.
func willing(line string) string {
	switch line[:min(4, len(line))] {
	case "":
		return "220 mx.example.org ESMTP"
	case "EHLO":
		return "250-mx.example.org\r\n250 8BITMIME"
	case "DATA":
		return "354 go on"
	case ".":
		return "250 2.0.0 queued as 42"
	}
	return "250 ok"
}

// but is willing except that it answers what begins with a prefix otherwise; an empty prefix means the greeting.
func but(prefix, answer string) script {
	return func(line string) string {
		if line == prefix || prefix != "" && strings.HasPrefix(line, prefix) {
			return answer
		}
		return willing(line)
	}
}

const message = "From: Desk <help@example.com>\r\nSubject: [tessera #7] It works\r\n\r\nHello\r\n.\r\n..\r\n.x\r\nbye\r\n"

func mail(recipients ...string) *tesserav1.EmailMessage {
	if recipients == nil {
		recipients = []string{"a@example.org", "b@example.org", "c@example.org"}
	}
	return &tesserav1.EmailMessage{Sender: "help@example.com", Recipients: recipients, Message: []byte(message)}
}

func mailFrom(sender string) *tesserav1.EmailMessage {
	made := mail()
	made.Sender = sender
	return made
}

var conversation = []string{
	"EHLO desk.example.com",
	"MAIL FROM:<help@example.com>",
	"RCPT TO:<a@example.org>",
	"RCPT TO:<b@example.org>",
	"RCPT TO:<c@example.org>",
	"DATA",
}

func said(made attempt.Attempt) []string {
	var answers []string
	for _, answer := range made.Recipients {
		answers = append(answers, fmt.Sprint(answer.GetAddress(), " ", answer.GetOutcome(), " ", answer.GetAnswer()))
	}
	return answers
}

func TestAMailIsSentUnchangedAndConnectionsAreReused(t *testing.T) {
	server := serve(t, willing)
	transport := server.transport(t)
	made := transport.Send(t.Context(), hello, mail())
	if made.Outcome != attempt.Delivered || made.StatusCode != 250 || made.Detail != "250 2.0.0 queued as 42" || len(made.Recipients) != 3 {
		t.Errorf("%+v", made)
	}
	if made = transport.Send(t.Context(), hello, mail()); made.Outcome != attempt.Delivered {
		t.Errorf("%+v", made)
	}
	if got := server.commands(); !slices.Equal(got, slices.Concat(conversation, conversation[1:])) {
		t.Error(got)
	}
	// The blank line is SMTP's own: the message ends in CRLF before its final dot.
	if got := server.messages(); !slices.Equal(got, []string{message + "\r\n", message + "\r\n"}) {
		t.Errorf("%q", got)
	}
}

func TestAMessageIsDotStuffed(t *testing.T) {
	for text, want := range map[string]string{
		".": "..", ".\r\ntest": "..\r\ntest", "te\r\n.\r\nst": "te\r\n..\r\nst", "\r\n.\r\n.": "\r\n..\r\n..", "a.b\n.c\r.d": "a.b\n.c\r.d", "": "",
	} {
		ours, theirs := net.Pipe()
		wire := make(chan string)
		go func() {
			got, _ := io.ReadAll(theirs)
			wire <- string(got)
		}()
		c := &conn{Conn: ours, lines: bufio.NewReader(strings.NewReader("250 ok\r\n"))}
		if _, err := c.message([]byte(text)); err != nil {
			t.Error(err)
		}
		_ = ours.Close()
		if got := <-wire; got != want+"\r\n.\r\n" {
			t.Errorf("%q is sent as %q", text, got)
		}
	}
}

func TestAnAddressCannotInjectCommands(t *testing.T) {
	server := serve(t, willing)
	for _, address := range []string{
		"a@b\r\nRCPT TO:<c@d", "a@b\n", "nobody", "@example.org", "a@", "a\x00@b", "a@b> SIZE=1", "a@b c", "<a@b>",
	} {
		for _, hostile := range []*tesserav1.EmailMessage{mailFrom(address), mail(address)} {
			made := server.transport(t).Send(t.Context(), hello, hostile)
			if made.Outcome != attempt.Permanent || made.Health != attempt.Unknown || !strings.HasSuffix(made.Detail, " is not a mail address") {
				t.Errorf("%q: %+v", address, made)
			}
		}
	}
	if made := server.transport(t).Send(t.Context(), hello, &tesserav1.EmailMessage{}); made.Outcome != attempt.Permanent || made.Detail != "the mail has no recipient" {
		t.Errorf("%+v", made)
	}
	if heard := server.commands(); len(heard) > 0 {
		t.Error(heard)
	}
	alone := serve(t, willing)
	made := alone.transport(t).Send(t.Context(), hello, mail("", "a@example.org", "a@b\r\nRCPT TO:<c@d"))
	if made.Outcome != attempt.Delivered || made.Recipients[0].GetOutcome() != attempt.Permanent || made.Recipients[2].GetOutcome() != attempt.Permanent {
		t.Errorf("%+v", made)
	}
	if want := []string{conversation[0], conversation[1], "RCPT TO:<a@example.org>", "DATA"}; !slices.Equal(alone.commands(), want) {
		t.Error(alone.commands())
	}
	if made := server.transport(t).Send(t.Context(), hello, mailFrom("")); made.Outcome != attempt.Delivered || server.commands()[1] != "MAIL FROM:<>" {
		t.Errorf("%+v", made)
	}
}

func TestAMailRejectedForEveryRecipientIsGivenUpAndTheConnectionIsKept(t *testing.T) {
	server := serve(t, but("RCPT TO:<gone@", "550 5.1.1 no such user"))
	transport := server.transport(t)
	made := transport.Send(t.Context(), hello, mail("gone@example.org"))
	if made.Outcome != attempt.Permanent || made.StatusCode != 550 || made.Detail != "550 5.1.1 no such user" {
		t.Errorf("%+v", made)
	}
	if made := transport.Send(t.Context(), hello, mail()); made.Outcome != attempt.Delivered {
		t.Errorf("%+v", made)
	}
	want := slices.Concat(conversation[:2], []string{"RCPT TO:<gone@example.org>", "RSET"}, conversation[1:])
	if got := server.commands(); !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestAMailRejectedOnAnIdleConnectionIsNotRetriedOnAnother(t *testing.T) {
	server := serve(t, but("MAIL FROM:<bad@", "550 no"))
	transport := server.transport(t)
	if made := transport.Send(t.Context(), hello, mail()); made.Outcome != attempt.Delivered {
		t.Errorf("%+v", made)
	}
	if made := transport.Send(t.Context(), hello, mailFrom("bad@example.com")); made.Outcome != attempt.Permanent || made.StatusCode != 550 {
		t.Errorf("%+v", made)
	}
	if got := server.commands(); len(got) != len(conversation)+1 {
		t.Error(got)
	}
}

func TestAServerThatClosedAnIdleConnectionIsDialledAgain(t *testing.T) {
	for _, answer := range []string{"421 idle too long", hangUp} {
		transport := serve(t, but("MAIL FROM:<again", answer), willing).transport(t)
		for _, sender := range []string{"help@example.com", "again@example.com"} {
			if made := transport.Send(t.Context(), hello, mailFrom(sender)); made.Outcome != attempt.Delivered {
				t.Errorf("%q: %+v", answer, made)
			}
		}
	}
}

func TestAConnectionThatWasIdleTooLongIsNotReused(t *testing.T) {
	server := serve(t, willing)
	transport := server.transport(t)
	transport.Send(t.Context(), hello, mail())
	transport.mutex.Lock()
	transport.idle[0].since = time.Now().Add(-idleFor)
	transport.mutex.Unlock()
	transport.Send(t.Context(), hello, mail())
	if got := server.commands(); !slices.Equal(got, slices.Concat(conversation, conversation)) {
		t.Error(got)
	}
}

func TestTheNumberOfIdleConnectionsIsLimited(t *testing.T) {
	server := serve(t, willing)
	transport := server.transport(t)
	for range idleMax + 2 {
		c, err := transport.connect(t.Context(), hello, time.Now().Add(patience))
		if err != nil {
			t.Fatal(err)
		}
		transport.keep(c)
	}
	if len(transport.idle) != idleMax {
		t.Error(len(transport.idle))
	}
}

func TestASilentOrAbsentServerFailsTheAttempt(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport, err := New("smtp://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	transport.dialogue = 300 * time.Millisecond
	made := transport.Send(t.Context(), hello, mail())
	if made.Outcome != attempt.Retry || made.Health != attempt.Fails || made.Wait != time.Minute ||
		made.Detail != "the mail server 127.0.0.1 did not answer in time" {
		t.Errorf("%+v", made)
	}
	_ = listener.Close()
	transport.dialogue = patience
	made = transport.Send(t.Context(), hello, mail())
	if made.Outcome != attempt.Retry || made.Health != attempt.Fails || made.StatusCode != 0 || made.Wait != 0 ||
		made.Detail != "mail server "+listener.Addr().String()+": connection refused" {
		t.Errorf("%+v", made)
	}
}

func TestAnAttemptEndsWhenItIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	transport := serve(t, func(line string) string {
		if strings.HasPrefix(line, "RCPT") {
			cancel()
			<-t.Context().Done()
		}
		return willing(line)
	}).transport(t)
	ended := make(chan attempt.Attempt)
	go func() { ended <- transport.Send(ctx, hello, mail()) }()
	select {
	case made := <-ended:
		if made.Outcome != attempt.Retry {
			t.Errorf("%+v", made)
		}
	case <-time.After(patience):
		t.Error("the attempt did not end")
	}
}

// certificate returns a certificate for example.com and 127.0.0.1 that only roots trust.
func certificate(t *testing.T) (serving *tls.Config, roots *x509.CertPool) {
	t.Helper()
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	roots = x509.NewCertPool()
	roots.AddCert(web.Certificate())
	return &tls.Config{Certificates: web.TLS.Certificates}, roots
}

func offersTLS(next script) script {
	isEncrypted := false
	return func(line string) string {
		switch {
		case line == "STARTTLS":
			isEncrypted = true
			return "220 TLS"
		case strings.HasPrefix(line, "EHLO") && !isEncrypted:
			return "250-mx\r\n250 STARTTLS"
		}
		return next(line)
	}
}

func TestOnlyRequiredEncryptionVerifiesTheCertificate(t *testing.T) {
	serving, roots := certificate(t)
	for _, c := range []struct {
		query   string
		roots   *x509.CertPool
		outcome tesserav1.Outcome
		detail  string
	}{
		{"", nil, attempt.Delivered, "250 2.0.0"},
		{"?tls=opportunistic", nil, attempt.Delivered, "250 2.0.0"},
		{"?tls=required", roots, attempt.Delivered, "250 2.0.0"},
		{"?tls=required", nil, attempt.Retry, "mail server 127.0.0.1:"},
		{"?tls=none", nil, attempt.Delivered, "250 2.0.0"},
	} {
		server := serve(t, offersTLS(willing))
		server.tls = serving
		transport := server.transportWith(t, "smtp://%s"+c.query)
		transport.server.tls.RootCAs = c.roots
		made := transport.Send(t.Context(), hello, mail())
		if made.Outcome != c.outcome || !strings.HasPrefix(made.Detail, c.detail) {
			t.Errorf("%s: %+v", c.query, made)
		}
		want := slices.Concat([]string{conversation[0], "STARTTLS"}, conversation)
		switch {
		case c.query == "?tls=none":
			want = conversation
		case c.outcome == attempt.Retry:
			want = want[:2]
		}
		if got := server.commands(); !slices.Equal(got, want) {
			t.Errorf("%s: %v", c.query, got)
		}
	}
}

func TestDataInjectedBeforeEncryptionIsDiscarded(t *testing.T) {
	server := serve(t, offersTLS(willing))
	server.tls, _ = certificate(t)
	server.slipped = "250-forged\r\n250 AUTH PLAIN\r\n"
	transport := server.transportWith(t, "smtp://u:canary@%s?tls=opportunistic")
	if made := transport.Send(t.Context(), hello, mail()); made.Outcome != attempt.Retry {
		t.Errorf("%+v", made)
	}
	for _, line := range server.commands() {
		if strings.HasPrefix(line, "AUTH") {
			t.Error(line)
		}
	}
}

func TestAWrappedConnectionIsEncryptedFromTheFirstByte(t *testing.T) {
	serving, roots := certificate(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", serving)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	server := &mailServer{address: listener.Addr().String(), scripts: []script{willing}}
	go server.accept(listener)
	transport := server.transportWith(t, "smtps://%s")
	if made := transport.Send(t.Context(), hello, mail()); made.Outcome != attempt.Retry || !strings.HasPrefix(made.Detail, "mail server ") {
		t.Errorf("%+v", made)
	}
	transport.server.tls.RootCAs = roots
	if made := transport.Send(t.Context(), hello, mail()); made.Outcome != attempt.Delivered {
		t.Errorf("%+v", made)
	}
}

func TestTheSizeOfAReplyIsLimited(t *testing.T) {
	line := "250-" + strings.Repeat("x", lineMax-10) + "\r\n"
	server := serve(t, but("EHLO", strings.Repeat(line, answerMax/len(line)+1)+"250 x"))
	made := server.transport(t).Send(t.Context(), hello, mail())
	if made.Outcome != attempt.Retry || made.Detail != "mail server "+server.address+": SMTP response too large" {
		t.Errorf("%+v", made)
	}
}

func TestSMTPUTF8IsOnlyUsedForNonASCIIMails(t *testing.T) {
	server := serve(t, but("EHLO", "250-mx\r\n250 SMTPUTF8"))
	for _, change := range []func(*tesserav1.EmailMessage){
		func(*tesserav1.EmailMessage) {},
		func(mail *tesserav1.EmailMessage) { mail.Sender = "ü@example.com" },
		func(mail *tesserav1.EmailMessage) { mail.Message = []byte("Subject: \xc3\xbc\r\n\r\n") },
	} {
		changed := mail()
		change(changed)
		if made := server.transport(t).Send(t.Context(), hello, changed); made.Outcome != attempt.Delivered {
			t.Errorf("%+v", made)
		}
	}
	isMail := func(line string) bool { return strings.HasPrefix(line, "MAIL") }
	got := slices.DeleteFunc(server.commands(), func(line string) bool { return !isMail(line) })
	want := []string{conversation[1], "MAIL FROM:<ü@example.com> SMTPUTF8", conversation[1] + " SMTPUTF8"}
	if !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestATakenMessageIsTakenHoweverItsReplyEnds(t *testing.T) {
	for _, words := range []string{"250", "250\n", "250 ok\n", "250-ok\r\n", "250-ok\r\n250-and\r\n", "250 \xc4\xe3\xba\xc3"} {
		if made := lastWords(t, words); made.Outcome != attempt.Delivered || made.StatusCode != 250 {
			t.Errorf("%q: %+v", words, made)
		}
	}
	for _, words := range []string{"", "\r\n", "25", "ok\r\n", "354\r\n"} {
		if made := lastWords(t, words); made.Outcome != attempt.Retry {
			t.Errorf("%q: %+v", words, made)
		}
	}
}

// lastWords sends a mail to a server that closes the connection after these bytes.
func lastWords(t *testing.T, words string) attempt.Attempt {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		socket, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = socket.Close() }()
		lines, isMessage := bufio.NewReader(socket), false
		_, _ = io.WriteString(socket, "220\r\n")
		for {
			line, err := lines.ReadString('\n')
			switch {
			case err != nil:
				return
			case isMessage && line == ".\r\n":
				_, _ = io.WriteString(socket, words)
				return
			case isMessage:
			case line == "DATA\r\n":
				isMessage = true
				_, _ = io.WriteString(socket, "354\r\n")
			default:
				_, _ = io.WriteString(socket, "250\r\n")
			}
		}
	}()
	transport, err := New("smtp://" + listener.Addr().String() + "?tls=none")
	if err != nil {
		t.Fatal(err)
	}
	defer transport.Close()
	return transport.Send(t.Context(), hello, mail())
}

func TestAPasswordNeedsNoEscapingAndIsNeverShown(t *testing.T) {
	const answer = "535 5.7.8 wrong"
	server := serve(t, func(line string) string {
		if strings.HasPrefix(line, "AUTH") {
			return answer
		}
		return but("EHLO", "250-mx\r\n250 AUTH PLAIN")(line)
	})
	for _, user := range []string{"user@x:can:ary", "user%%40x:can%%3Aary"} {
		made := server.transportWith(t, "smtp://"+user+"@%s").Send(t.Context(), hello, mail())
		if made.Outcome != attempt.Retry || made.Detail != answer || strings.Contains(fmt.Sprintf("%+v", made), "can") {
			t.Errorf("%+v", made)
		}
	}
	if got := server.commands(); len(got) != 4 || got[1] != got[3] || got[1] != "AUTH PLAIN AHVzZXJAeABjYW46YXJ5" {
		t.Error(got)
	}
}

func TestAServerThatSendsThePasswordBackDoesNotRevealIt(t *testing.T) {
	server := serve(t, func(line string) string {
		if response, found := strings.CutPrefix(line, "AUTH PLAIN "); found {
			return "535 5.7.8 not " + response + " and not CANARY-PASSWORD"
		}
		return but("EHLO", "250-mx\r\n250 AUTH PLAIN")(line)
	})
	made := server.transportWith(t, "smtp://user:canary-password@%s").Send(t.Context(), hello, mail())
	if made.Outcome != attempt.Retry || made.Detail != "535 5.7.8 not AHVzZX(secret TESSERA_SMTP_URL) and not (secret TESSERA_SMTP_URL)" {
		t.Errorf("%+v", made)
	}
}

func TestARepeatedEnhancedCodeIsShownOnce(t *testing.T) {
	for _, c := range []struct {
		code  int
		lines []string
		want  string
	}{
		{550, []string{"5.7.25 a", "5.7.25 b", "5.7.25  c"}, "550 5.7.25 a b c"},
		{550, []string{"5.7.2 a", "5.7.25 b"}, "550 5.7.2 a 5.7.25 b"},
		{550, []string{"4.7.1 a", "4.7.1 b"}, "550 4.7.1 a 4.7.1 b"},
		{450, []string{"a", "b"}, "450 a b"},
		{550, []string{"", ""}, "550"},
		{550, nil, "550"},
	} {
		if got := (&replyError{answer{c.code, c.lines}}).Error(); got != c.want {
			t.Errorf("%q", got)
		}
	}
}

func TestTheURLDeterminesHowToConnect(t *testing.T) {
	for _, c := range []struct {
		url, host string
		port      int
		mode      mode
	}{
		{"smtp://mail.example.org", "mail.example.org", 25, opportunistic},
		{"smtp://mail.example.org:2525/", "mail.example.org", 2525, opportunistic},
		{"smtp://mail.example.org?tls=required", "mail.example.org", 25, required},
		{"smtp://mail.example.org?tls=none", "mail.example.org", 25, unencrypted},
		{"SMTPS://mail.example.org", "mail.example.org", 465, wrapped},
		{"smtps://u:p@mail.example.org?tls=required", "mail.example.org", 465, wrapped},
		{"smtp://u:p@mail.example.org", "mail.example.org", 587, required},
		{"smtp://u:p@mail.example.org?tls=opportunistic", "mail.example.org", 587, opportunistic},
		{"smtp://u:p@127.0.0.1:2525", "127.0.0.1", 2525, opportunistic},
		{"smtp://u:p|^{}\\@localhost:2525", "localhost", 2525, opportunistic},
		{"smtp://[::1]:2525", "::1", 2525, opportunistic},
	} {
		server, err := parse(c.url)
		if err != nil || server.host != c.host || server.port != c.port || server.mode != c.mode {
			t.Errorf("%s: %+v, %v", c.url, server, err)
		}
	}
	transport, err := New("smtp://u:canary@[::1]:2525?tls=required")
	if err != nil || transport.String() != "[::1]:2525 (encryption: required)" {
		t.Error(transport, err)
	}
	for url, words := range map[string]string{
		"mail.example.org": "smtp://host:port", "http://mail.example.org": "begins with http:", "smtp://": "host",
		"smtp://mail.example.org/path": "more than a host", "smtp://mail.example.org/#": "more than a host",
		"smtp://mail.example.org?tls=maybe": "tls=maybe", "smtps://mail.example.org?tls=none": "always encrypted",
		"smtp://mail.example.org?ssl=1": `"ssl"`, "smtp://mail.example.org?tls=none&tls=none": `"tls"`, "smtp://mail.example.org?tls=": "tls=;",
		"smtp://canary@mail.example.org": "a user and a password", "smtp://:canary@mail.example.org": "a user and a password",
		"smtp://u:canary@mail.example.org:99999": "port", "smtp://u:canary@mail.example.org:port": "not a URL",
		"smtp://u:canary@": "host", "smtp://u:canary%ff@mail.example.org": "not UTF-8",
	} {
		if _, err := New(url); err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestANameIsFormattedForEHLO(t *testing.T) {
	for name, want := range map[string]string{
		"desk.example.com": "desk.example.com", "192.0.2.1": "[192.0.2.1]", "2001:db8::1": "[IPv6:2001:db8::1]",
		"": "[127.0.0.1]", "a b": "[127.0.0.1]", "x\r\nQUIT": "[127.0.0.1]", "bücher.example": "[127.0.0.1]",
	} {
		if got := helloName(name); got != want {
			t.Errorf("%q is %q", name, got)
		}
	}
}
