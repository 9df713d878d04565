// Package mail sends mail by SMTP: one conversation per attempt, with a reply for each recipient. It judges replies like the
// workers in Tessera's own binary.
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/net/idna"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// connectTimeout is the timeout for connecting.
	connectTimeout = 10 * time.Second
	// dialogueTimeout is the timeout for everything before the message, from the greeting to the last recipient.
	dialogueTimeout = 5 * time.Minute
	// messageTimeout is the timeout for the message itself: ten minutes as in RFC 5321, 4.5.3.2.6, because a shorter one
	// causes duplicates.
	messageTimeout = 10 * time.Minute
	// MaxDuration is the maximum duration of an attempt.
	MaxDuration = dialogueTimeout + messageTimeout

	// idleMax is the maximum number of idle connections, and idleFor how long one is kept.
	idleMax, idleFor = 8, 30 * time.Second

	// closing is the reply code of a server that closes the connection, for example because it was idle for too long.
	closing = 421
	// notAuthenticated means "authentication required" or "must issue STARTTLS first": it concerns the connection and not the
	// mail, although it is a reply to MAIL.
	notAuthenticated = 530

	// foreignLocalPart is why a server cannot take an address (RFC 6531).
	foreignLocalPart = `the address is not ASCII before the "@", and the mail server does not support such addresses (SMTPUTF8)`
)

// A Transport sends mail through one mail server. It keeps connections open between mails, so a process should have only one.
type Transport struct {
	server   server
	mask     *tessera.Mask
	dialogue time.Duration

	mutex sync.Mutex
	idle  []idleConn
}

type idleConn struct {
	*conn
	since time.Time
}

// New returns a transport to smtp://[user:password@]host[:port][?tls=required|opportunistic|none] or smtps://….
//
// smtp uses STARTTLS if the server offers it, without verifying the certificate: an attacker who can forge the certificate can
// also suppress the offer. With tls=required, with smtps, and if a password is sent to another machine, nothing is sent unless
// the connection is encrypted and the certificate is valid. Default ports: 25, with a user 587, smtps 465.
//
// The error continues a sentence that begins with the name of the setting, and never contains the password.
func New(url string) (*Transport, error) {
	server, err := parse(url)
	if err != nil {
		return nil, err
	}
	// The mask names the setting of the email connector.
	mask := tessera.NewMask(map[string]string{"TESSERA_SMTP_URL": server.password})
	return &Transport{server: server, mask: mask, dialogue: dialogueTimeout}, nil
}

// String returns the address of the server and the mode of encryption.
func (t *Transport) String() string {
	return fmt.Sprintf("%s (encryption: %s)", t.server.address(), t.server.mode)
}

// helloName returns a name in the form that EHLO requires.
func helloName(name string) string {
	isInvisible := func(r rune) bool { return r <= ' ' || r > '~' }
	ip := net.ParseIP(name)
	switch {
	case ip != nil && strings.Contains(name, ":"):
		return "[IPv6:" + name + "]"
	case ip != nil:
		return "[" + name + "]"
	case name == "" || strings.ContainsFunc(name, isInvisible):
		return "[127.0.0.1]"
	}
	return name
}

// Close closes idle connections.
func (t *Transport) Close() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, idle := range t.idle {
		_ = idle.Close()
	}
	t.idle = nil
}

// Send makes one attempt to send a mail to its recipients. A new connection sends hello in EHLO: the name of the machine, or the
// domain that sends the mail. Every failure is part of the returned attempt.
func (t *Transport) Send(ctx context.Context, hello string, mail *tesserav1.EmailMessage) attempt.Attempt {
	return t.attempt(ctx, hello, mail).Masked(t.mask.Text)
}

func (t *Transport) attempt(ctx context.Context, hello string, mail *tesserav1.EmailMessage) attempt.Attempt {
	if len(mail.GetRecipients()) == 0 {
		return attempt.New(attempt.Permanent, "the mail has no recipient")
	}
	sender := mail.GetSender()
	if sender != "" {
		var err error
		if sender, err = mailbox(sender); err != nil {
			return attempt.New(attempt.Permanent, "the sender "+err.Error())
		}
	}
	receivers := receiversOf(mail)
	if !slices.ContainsFunc(receivers, func(receiver receiver) bool { return receiver.fault == nil }) {
		return attempt.New(attempt.Permanent, receivers[0].fault.Error())
	}
	answers, health, failed := t.converse(ctx, helloName(hello), envelope{sender, receivers, mail.GetMessage()})
	if failed != nil {
		return *failed
	}
	made := conclude(answers)
	made.Health = health
	return made
}

// An envelope is a mail with its addresses as the server gets them.
type envelope struct {
	sender    string
	receivers []receiver
	message   []byte
}

// A receiver is a recipient: the address by which its answer is reported, and the mailbox for RCPT, or why it has no mailbox.
type receiver struct {
	address, mailbox string
	fault            error
}

func receiversOf(mail *tesserav1.EmailMessage) []receiver {
	var all []receiver
	for _, address := range mail.GetRecipients() {
		mailbox, err := mailbox(address)
		all = append(all, receiver{address, mailbox, err})
	}
	return all
}

// mailbox returns an address with its domain in ASCII (RFC 5891), which every mail server accepts.
func mailbox(address string) (string, error) {
	if !isAddress(address) {
		return "", fmt.Errorf("%q is not a mail address", address)
	}
	at := strings.LastIndexByte(address, '@')
	local, domain := address[:at], address[at+1:]
	if isASCII(domain) {
		return address, nil
	}
	domain, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return "", fmt.Errorf("%q is not a mail address", address)
	}
	return local + "@" + domain, nil
}

// isAddress reports whether a text is an address that is safe between the angle brackets of a command.
func isAddress(text string) bool {
	at := strings.LastIndexByte(text, '@')
	return at > 0 && at < len(text)-1 && !strings.ContainsAny(text[at:], " <>") && !strings.ContainsFunc(text, unicode.IsControl)
}

// converse carries out the whole conversation. It returns the results for the recipients and the health of the server, or the
// failed attempt if it ended before the replies for the recipients.
func (t *Transport) converse(ctx context.Context, hello string, mail envelope) (
	[]*tesserav1.RecipientAnswer, tesserav1.Health, *attempt.Attempt,
) {
	c, answers, failed := t.introduce(ctx, hello, mail, time.Now().Add(t.dialogue))
	if failed != nil {
		return nil, attempt.Unknown, failed
	}
	isTaken := func(answer *tesserav1.RecipientAnswer) bool { return answer.GetOutcome() == attempt.Delivered }
	if !slices.ContainsFunc(answers, isTaken) {
		t.reset(ctx, c)
		return answers, attempt.Works, nil
	}
	said, err := t.handOver(ctx, c, mail.message)
	outcome, words, health := attempt.Delivered, attempt.Sentence(said.words()), attempt.Works
	if err != nil {
		_ = c.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, attempt.Unknown, t.silent()
		}
		outcome, words, health = severity(err), t.words(err), healthOf(err)
	} else {
		t.keep(c)
	}
	// The reply to the message applies to every recipient that the server accepted.
	for _, answer := range answers {
		if isTaken(answer) {
			answer.Outcome, answer.Answer = outcome, words
		}
	}
	return answers, health, nil
}

// introduce sends MAIL, and RCPT for each recipient. A recipient whose address the server cannot take is rejected alone.
func (t *Transport) introduce(ctx context.Context, hello string, mail envelope, end time.Time) (
	*conn, []*tesserav1.RecipientAnswer, *attempt.Attempt,
) {
	c, failed := t.begin(ctx, hello, mail, end)
	if failed != nil {
		return nil, nil, failed
	}
	defer c.until(ctx, end)()
	var answers []*tesserav1.RecipientAnswer
	for _, receiver := range mail.receivers {
		outcome, words := attempt.Permanent, ""
		switch {
		case receiver.fault != nil:
			words = attempt.Sentence(receiver.fault.Error())
		case !isASCII(receiver.mailbox) && !c.offers["SMTPUTF8"]:
			words = foreignLocalPart
		default:
			said, err := c.command("RCPT TO:<"+receiver.mailbox+">", done)
			switch code := codeOf(err); {
			case err == nil:
				outcome, words = attempt.Delivered, attempt.Sentence(said.words())
			case code != 0 && code != closing:
				outcome, words = severity(err), t.words(err)
			default:
				_ = c.Close()
				return nil, nil, t.broken(err)
			}
		}
		answers = append(answers, &tesserav1.RecipientAnswer{Address: receiver.address, Outcome: outcome, Answer: words})
	}
	return c, answers, nil
}

// begin returns a connection on which the server has accepted MAIL.
func (t *Transport) begin(ctx context.Context, hello string, mail envelope, end time.Time) (
	*conn, *attempt.Attempt,
) {
	for c := t.takeIdle(); c != nil; c = t.takeIdle() {
		failed, err := t.offer(ctx, c, mail, end)
		switch code := codeOf(err); {
		case failed != nil:
			return nil, failed
		case err == nil:
			return c, nil
		case code != 0 && code != closing, errors.Is(err, os.ErrDeadlineExceeded):
			return nil, t.refused(err)
		}
		// The server closed this connection while it was idle; that says nothing about this mail.
	}
	c, err := t.connect(ctx, hello, end)
	if err != nil {
		return nil, t.broken(err)
	}
	failed, err := t.offer(ctx, c, mail, end)
	if err != nil {
		return nil, t.refused(err)
	}
	return c, failed
}

// offer sends MAIL. It closes the connection unless the server accepts it.
func (t *Transport) offer(ctx context.Context, c *conn, mail envelope, end time.Time) (*attempt.Attempt, error) {
	command := "MAIL FROM:<" + mail.sender + ">"
	isPlain := isASCII(mail.sender) && isASCII(string(mail.message))
	if !isPlain && !c.offers["SMTPUTF8"] {
		_ = c.Close()
		failed := attempt.New(attempt.Permanent, foreignLocalPart+": the sender "+mail.sender)
		return &failed, nil
	}
	isForeign := func(receiver receiver) bool { return !isASCII(receiver.mailbox) }
	if c.offers["SMTPUTF8"] && (!isPlain || slices.ContainsFunc(mail.receivers, isForeign)) {
		command += " SMTPUTF8"
	}
	defer c.until(ctx, end)()
	_, err := c.command(command, done)
	if err != nil {
		_ = c.Close()
	}
	return nil, err
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
}

// handOver sends the message itself.
func (t *Transport) handOver(ctx context.Context, c *conn, message []byte) (answer, error) {
	defer c.until(ctx, time.Now().Add(messageTimeout))()
	if _, err := c.command("DATA", more); err != nil {
		return answer{}, err
	}
	return c.message(message)
}

// reset prepares a connection for the next mail after every recipient was rejected.
func (t *Transport) reset(ctx context.Context, c *conn) {
	defer c.until(ctx, time.Now().Add(t.dialogue))()
	if _, err := c.command("RSET", done); err != nil {
		_ = c.Close()
		return
	}
	t.keep(c)
}

// connect opens a connection, with encryption and login as configured.
func (t *Transport) connect(ctx context.Context, hello string, end time.Time) (*conn, error) {
	dialer := net.Dialer{Timeout: connectTimeout, Deadline: end}
	network, err := dialer.DialContext(ctx, "tcp", t.server.address())
	if err != nil {
		if !time.Now().Before(end) {
			return nil, os.ErrDeadlineExceeded
		}
		// Drops the type of the error: a timeout while connecting is not a server that does not respond.
		return nil, errors.New(attempt.Bottom(err))
	}
	defer deadline(ctx, network, end)()
	c, err := t.setUp(ctx, network, hello)
	if err != nil {
		_ = network.Close()
	}
	return c, err
}

func (t *Transport) setUp(ctx context.Context, network net.Conn, hello string) (*conn, error) {
	if t.server.mode == wrapped {
		secure := tls.Client(network, t.server.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		network = secure
	}
	c, err := greet(network, hello)
	if err != nil {
		return nil, err
	}
	isWanted := t.server.mode == required || t.server.mode == opportunistic && c.offers["STARTTLS"]
	if isWanted {
		// Fails if the server does not offer it, before anything confidential is sent.
		if err := c.encrypt(ctx, t.server.tls, hello); err != nil {
			return nil, err
		}
	}
	if t.server.user != "" {
		if err := c.logIn(t.server.user, t.server.password); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// takeIdle returns the most recently used idle connection, or nil.
func (t *Transport) takeIdle() *conn {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.idle = slices.DeleteFunc(t.idle, func(idle idleConn) bool {
		isOld := time.Since(idle.since) >= idleFor
		if isOld {
			_ = idle.Close()
		}
		return isOld
	})
	if len(t.idle) == 0 {
		return nil
	}
	last := t.idle[len(t.idle)-1]
	t.idle = t.idle[:len(t.idle)-1]
	return last.conn
}

func (t *Transport) keep(c *conn) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if len(t.idle) == idleMax {
		_ = c.Close()
		return
	}
	t.idle = append(t.idle, idleConn{c, time.Now()})
}

// refused returns the failed attempt after an error at MAIL: permanent if it is a 5xx code about the mail.
func (t *Transport) refused(err error) *attempt.Attempt {
	failed := t.broken(err)
	if code := codeOf(err); code >= 500 && code != notAuthenticated {
		failed.Outcome, failed.Health = attempt.Permanent, attempt.Works
	}
	return failed
}

// broken returns the failed attempt after an error that does not concern this mail. Even after a 5xx code (a greeting with
// 554, an invalid password) the mail is retried, because an operator can fix the cause.
func (t *Transport) broken(err error) *attempt.Attempt {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return t.silent()
	}
	failed := attempt.New(attempt.Retry, t.words(err))
	failed.Health, failed.StatusCode = attempt.Fails, codeOf(err)
	return &failed
}

func (t *Transport) silent() *attempt.Attempt {
	failed := attempt.New(attempt.Retry, fmt.Sprintf("the mail server %s did not answer in time", t.server.host))
	failed.Health, failed.Wait = attempt.Fails, attempt.TroubleWait
	return &failed
}

// words returns the reply of the server, or the error and the address of the server if there was no reply.
func (t *Transport) words(err error) string {
	if codeOf(err) != 0 {
		return attempt.Sentence(err.Error())
	}
	return attempt.Sentence(fmt.Sprintf("mail server %s:%d: %s", t.server.host, t.server.port, attempt.Bottom(err)))
}

// conclude returns the attempt for the replies: retry if any recipient is to be retried, otherwise delivered if the server
// accepted the mail for any recipient, otherwise permanent.
func conclude(recipients []*tesserav1.RecipientAnswer) attempt.Attempt {
	outcome := attempt.Permanent
	for _, candidate := range []tesserav1.Outcome{attempt.Delivered, attempt.Retry} {
		if slices.ContainsFunc(recipients, func(answer *tesserav1.RecipientAnswer) bool { return answer.GetOutcome() == candidate }) {
			outcome = candidate
		}
	}
	first := slices.IndexFunc(recipients, func(answer *tesserav1.RecipientAnswer) bool { return answer.GetOutcome() == outcome })
	decisive := recipients[first].GetAnswer()
	detail := decisive
	for _, answer := range recipients {
		if answer.GetAnswer() != decisive {
			detail += "; " + answer.GetAddress() + ": " + answer.GetAnswer()
		}
	}
	made := attempt.New(outcome, detail)
	made.Recipients = recipients
	if len(decisive) >= 3 {
		made.StatusCode, _ = strconv.Atoi(decisive[:3])
	}
	return made
}

// codeOf returns the code of a *replyError; 0 for other errors.
func codeOf(err error) int {
	var refusal *replyError
	if errors.As(err, &refusal) {
		return refusal.code
	}
	return 0
}

func severity(err error) tesserav1.Outcome {
	if codeOf(err) >= 500 {
		return attempt.Permanent
	}
	return attempt.Retry
}

// healthOf returns the health of the server after a rejected message: it works, unless it closed the connection or
// does not speak SMTP.
func healthOf(err error) tesserav1.Health {
	if code := codeOf(err); code < 400 || code == closing {
		return attempt.Fails
	}
	return attempt.Works
}
