// Package mail sends mail by SMTP: one conversation per attempt, in which every recipient gets an answer of its own. What
// comes of it is judged as the workers in Tessera's own binary judge it.
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

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// connectTimeout is how long connecting may take.
	connectTimeout = 10 * time.Second
	// dialogueTimeout is how long all that comes before the message may take, from the greeting to the last recipient.
	dialogueTimeout = 5 * time.Minute
	// messageTimeout is how long the server may take over the message itself. RFC 5321, 4.5.3.2.6: ten minutes, since
	// leaving earlier makes doubles.
	messageTimeout = 10 * time.Minute
	// MaxDuration is how long an attempt may take at most.
	MaxDuration = dialogueTimeout + messageTimeout

	// idleMax is how many connections wait for the next mail, and idleFor how long one waits.
	idleMax, idleFor = 8, 30 * time.Second

	// closing is what a server says on a connection that lay idle too long for its taste.
	closing = 421
	// notAuthenticated is "authentication required" or "must issue STARTTLS first": it is about the connection, though it
	// answers MAIL.
	notAuthenticated = 530
)

// A Transport sends mail through one mail server. One for the whole process: it keeps connections open between mails.
type Transport struct {
	server   server
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
// smtp takes STARTTLS when the server offers it, without looking at its certificate, since whoever could forge that could
// also hide the offer. With tls=required, with smtps, and when a password goes to another machine, the connection is
// encrypted and the certificate checked, or nothing is sent. Ports: 25, with a user 587, smtps 465.
//
// The error is the end of a sentence that begins with the name of the setting, and never repeats the password.
func New(url string) (*Transport, error) {
	server, err := parse(url)
	if err != nil {
		return nil, err
	}
	return &Transport{server: server, dialogue: dialogueTimeout}, nil
}

// String names the server and how it is spoken to.
func (t *Transport) String() string {
	return fmt.Sprintf("%s (encryption: %s)", t.server.address(), t.server.mode)
}

// helloName returns a name in the form in which EHLO gives it.
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

// Close closes the connections that lie idle.
func (t *Transport) Close() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, idle := range t.idle {
		_ = idle.Close()
	}
	t.idle = nil
}

// Send makes one attempt at the recipients of a mail. hello is the name that it gives in EHLO when it makes a connection: the
// machine's, or the domain mail comes from. Nothing fails: whatever happens is what the attempt came to.
func (t *Transport) Send(ctx context.Context, hello string, mail *tesserav1.EmailMessage) attempt.Attempt {
	if len(mail.GetRecipients()) == 0 {
		return attempt.New(attempt.Permanent, "the mail has no recipient")
	}
	addresses := mail.GetRecipients()
	if mail.GetSender() != "" {
		addresses = append([]string{mail.GetSender()}, addresses...)
	}
	for _, address := range addresses {
		if !isAddress(address) {
			return attempt.New(attempt.Permanent, fmt.Sprintf("%q is not a mail address", address))
		}
	}
	answers, health, failed := t.converse(ctx, helloName(hello), mail)
	if failed != nil {
		return *failed
	}
	made := conclude(answers)
	made.Health = health
	return made
}

// isAddress tells whether a text can stand between the angle brackets of a command without ending it.
func isAddress(text string) bool {
	at := strings.LastIndexByte(text, '@')
	return at > 0 && at < len(text)-1 && !strings.ContainsAny(text[at:], " <>") && !strings.ContainsFunc(text, unicode.IsControl)
}

// converse is the whole conversation: what came of each recipient and what that says of the server, or the attempt that
// ended before any had an answer.
func (t *Transport) converse(ctx context.Context, hello string, mail *tesserav1.EmailMessage) (
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
	said, err := t.handOver(ctx, c, mail.GetMessage())
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
	// What the server says of the message holds for everybody it had taken as a recipient.
	for _, answer := range answers {
		if isTaken(answer) {
			answer.Outcome, answer.Answer = outcome, words
		}
	}
	return answers, health, nil
}

// introduce says MAIL, and RCPT for each recipient.
func (t *Transport) introduce(ctx context.Context, hello string, mail *tesserav1.EmailMessage, end time.Time) (
	*conn, []*tesserav1.RecipientAnswer, *attempt.Attempt,
) {
	c, failed := t.begin(ctx, hello, mail, end)
	if failed != nil {
		return nil, nil, failed
	}
	defer c.until(ctx, end)()
	var answers []*tesserav1.RecipientAnswer
	for _, recipient := range mail.GetRecipients() {
		outcome, words := attempt.Delivered, ""
		said, err := c.command("RCPT TO:<" + recipient + ">")
		switch code := codeOf(err); {
		case err == nil:
			words = attempt.Sentence(said.words())
		case code != 0 && code != closing:
			outcome, words = severity(err), t.words(err)
		default:
			_ = c.Close()
			return nil, nil, t.broken(err)
		}
		answers = append(answers, &tesserav1.RecipientAnswer{Address: recipient, Outcome: outcome, Answer: words})
	}
	return c, answers, nil
}

// begin returns a connection on which the server has taken MAIL.
func (t *Transport) begin(ctx context.Context, hello string, mail *tesserav1.EmailMessage, end time.Time) (
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
		// The server gave this connection up while it lay idle; nothing has been said of this mail.
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

// offer says MAIL. It closes the connection unless the server takes it.
func (t *Transport) offer(ctx context.Context, c *conn, mail *tesserav1.EmailMessage, end time.Time) (*attempt.Attempt, error) {
	command := "MAIL FROM:<" + mail.GetSender() + ">"
	isPlain := isASCII(string(mail.GetMessage())) && isASCII(mail.GetSender()) && !slices.ContainsFunc(mail.GetRecipients(),
		func(address string) bool { return !isASCII(address) })
	if !isPlain {
		if !c.offers["SMTPUTF8"] {
			_ = c.Close()
			failed := attempt.New(attempt.Permanent,
				"an address is not ASCII, and the mail server does not take such addresses (SMTPUTF8)")
			return &failed, nil
		}
		command += " SMTPUTF8"
	}
	defer c.until(ctx, end)()
	_, err := c.command(command)
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
	if _, err := c.command("DATA"); err != nil {
		return answer{}, err
	}
	return c.message(message)
}

// reset makes a connection on which every recipient was refused ready for the next mail.
func (t *Transport) reset(ctx context.Context, c *conn) {
	defer c.until(ctx, time.Now().Add(t.dialogue))()
	if _, err := c.command("RSET"); err != nil {
		_ = c.Close()
		return
	}
	t.keep(c)
}

// connect makes a connection, encrypted and with the password as configured.
func (t *Transport) connect(ctx context.Context, hello string, end time.Time) (*conn, error) {
	dialer := net.Dialer{Timeout: connectTimeout, Deadline: end}
	network, err := dialer.DialContext(ctx, "tcp", t.server.address())
	if err != nil {
		if !time.Now().Before(end) {
			return nil, os.ErrDeadlineExceeded
		}
		// In its words alone: that connecting took too long is no silence of the server.
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
		// Fails when the server does not offer it, before anything is said that others should not hear.
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

// takeIdle returns the connection that came to rest last; nil when there is none.
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

// refused is the attempt that the server refused at MAIL: final for this mail when it is a 5xx about the mail.
func (t *Transport) refused(err error) *attempt.Attempt {
	failed := t.broken(err)
	if code := codeOf(err); code >= 500 && code != notAuthenticated {
		failed.Outcome, failed.Health = attempt.Permanent, attempt.Works
	}
	return failed
}

// broken is the attempt in which nothing could be said about this mail. Even a 5xx (a greeting of 554, a wrong password) is
// put right by an operator, so the mail waits.
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

// words returns what the server said, or where there was no word from it and why.
func (t *Transport) words(err error) string {
	if codeOf(err) != 0 {
		return attempt.Sentence(err.Error())
	}
	return attempt.Sentence(fmt.Sprintf("mail server %s:%d: %s", t.server.host, t.server.port, attempt.Bottom(err)))
}

// conclude sums up: an attempt of a mail is done when every recipient has a final answer, and has delivered when one took it.
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

// codeOf returns the code of a refusal; 0 when the error is none.
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

// healthOf tells what an answer to the message says of the server: nothing against it, unless it hung up or is closing.
func healthOf(err error) tesserav1.Health {
	if code := codeOf(err); code == 0 || code == closing {
		return attempt.Fails
	}
	return attempt.Works
}
