package mail

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// lineMax is the maximum length of one line of a reply, in bytes.
	lineMax = 1000
	// answerMax is the maximum length of a whole reply, in bytes.
	answerMax = 100_000
	// challengesMax is the maximum number of challenges during a login.
	challengesMax = 10
)

// A fault is an error of the protocol, with the same text as in Tessera's own workers.
type fault string

func (f fault) Error() string { return string(f) }

const (
	errName       fault = "Could not read server name"
	errNoTLS      fault = "STARTTLS is not supported on this server"
	errMechanism  fault = "No compatible authentication mechanism was found"
	errChallenge  fault = "This mechanism does not expect a challenge"
	errUnread     fault = "Could not read auth challenge"
	errQuestion   fault = "Unrecognized challenge"
	errChallenges fault = "Unexpected number of challenges"
	errTooLarge   fault = "SMTP response too large"
	errTooLong    fault = "SMTP response line too long"
	errIncomplete fault = "incomplete response"
)

// An answer is the reply to one command.
type answer struct {
	code  int
	lines []string
}

// words returns the code and the text of all lines.
func (a answer) words() string {
	return fmt.Sprintf("%d %s", a.code, strings.Join(a.lines, " "))
}

// A replyError is a reply with a 4xx or 5xx code.
type replyError struct{ answer }

// Error returns the code and the text. An enhanced status code (RFC 2034) at the beginning of every line is included once.
func (e *replyError) Error() string {
	repeated := enhancedCode(e.answer)
	text := e.lines[0]
	for _, line := range e.lines[1:] {
		if rest, found := strings.CutPrefix(line, repeated); repeated != "" && found && strings.HasPrefix(rest, " ") {
			line = strings.TrimLeft(rest, " \t")
		}
		text += " " + line
	}
	return fmt.Sprintf("%d %s", e.code, text)
}

// enhancedCode returns the enhanced status code at the beginning of a reply, if it agrees with the code of the reply.
func enhancedCode(a answer) string {
	word := firstWord(a)
	parts := strings.Split(word, ".")
	if len(parts) != 3 || parts[0] != fmt.Sprint(a.code/100) || !slices.Contains([]string{"2", "4", "5"}, parts[0]) {
		return ""
	}
	for _, part := range parts[1:] {
		if len(part) < 1 || len(part) > 3 || strings.Trim(part, "0123456789") != "" {
			return ""
		}
	}
	return word
}

// firstWord returns the first word of a reply; empty if it has no text.
func firstWord(a answer) string {
	word, _, _ := strings.Cut(strings.TrimSpace(a.lines[0]), " ")
	return word
}

// A conn is a connection to a mail server after the greeting.
type conn struct {
	net.Conn
	lines *bufio.Reader
	// offers are the extensions of the server: STARTTLS, SMTPUTF8, and AUTH with its mechanisms, as in "AUTH PLAIN".
	offers map[string]bool
}

// greet waits for the greeting of the server and sends EHLO.
func greet(network net.Conn, hello string) (*conn, error) {
	c := &conn{Conn: network, lines: bufio.NewReaderSize(network, lineMax)}
	if _, err := c.answer(); err != nil {
		return nil, err
	}
	return c, c.hello(hello)
}

// hello sends EHLO and stores the extensions that the server offers. If that fails, it sends QUIT.
func (c *conn) hello(name string) error {
	said, err := c.command("EHLO " + name)
	if err == nil && firstWord(said) == "" {
		err = errName
	}
	if err != nil {
		c.quit()
		return err
	}
	c.offers = map[string]bool{}
	for _, line := range said.lines {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		c.offers[words[0]] = true
		for _, mechanism := range words[1:] {
			c.offers[words[0]+" "+mechanism] = true
		}
	}
	return nil
}

// encrypt starts TLS on the connection.
func (c *conn) encrypt(ctx context.Context, config *tls.Config, hello string) error {
	if !c.offers["STARTTLS"] {
		return errNoTLS
	}
	if _, err := c.command("STARTTLS"); err != nil {
		c.quit()
		return err
	}
	// Discards the old reader with everything that an attacker may have injected after the reply.
	secure := tls.Client(c.Conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return err
	}
	c.Conn, c.lines = secure, bufio.NewReaderSize(secure, lineMax)
	return c.hello(hello)
}

// logIn authenticates with AUTH PLAIN or AUTH LOGIN.
func (c *conn) logIn(user, password string) error {
	encode := base64.StdEncoding.EncodeToString
	switch {
	case c.offers["AUTH PLAIN"]:
		said, err := c.command("AUTH PLAIN " + encode([]byte("\x00"+user+"\x00"+password)))
		if err == nil && said.code == 334 {
			if _, err = questionOf(said); err == nil {
				err = errChallenge
			}
		}
		return err
	case !c.offers["AUTH LOGIN"]:
		return errMechanism
	}
	said, err := c.command("AUTH LOGIN")
	for range challengesMax {
		if err != nil || said.code != 334 {
			return err
		}
		reply, err := replyTo(said, user, password)
		if err != nil {
			return err
		}
		if said, err = c.command(encode([]byte(reply))); err != nil {
			c.quit()
			return err
		}
	}
	return errChallenges
}

// replyTo returns the response to a challenge of AUTH LOGIN.
func replyTo(said answer, user, password string) (string, error) {
	question, err := questionOf(said)
	if err != nil {
		return "", err
	}
	switch strings.ToLower(strings.TrimRight(question, ":\x00")) {
	case "user name", "username":
		return user, nil
	case "password":
		return password, nil
	}
	return "", errQuestion
}

// questionOf decodes the challenge in a reply.
func questionOf(said answer) (string, error) {
	if firstWord(said) == "" {
		return "", errUnread
	}
	question, err := base64.StdEncoding.DecodeString(firstWord(said))
	return string(question), err
}

// command sends one line and returns the reply; a reply with a 4xx or 5xx code is a *replyError.
func (c *conn) command(line string) (answer, error) {
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		return answer{}, err
	}
	return c.answer()
}

// message sends a whole message, dot-stuffed, and returns the reply.
func (c *conn) message(message []byte) (answer, error) {
	stuffed := bytes.ReplaceAll(message, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(message, []byte(".")) {
		stuffed = append([]byte("."), stuffed...)
	}
	if _, err := c.Write(append(stuffed, "\r\n.\r\n"...)); err != nil {
		return answer{}, err
	}
	return c.answer()
}

// quit sends QUIT, and closes the connection without an error if the server has already closed it.
func (c *conn) quit() {
	_, _ = c.command("QUIT")
	_ = c.Close()
}

func (c *conn) answer() (answer, error) {
	var said answer
	for length := 0; ; {
		line, err := c.line()
		if err != nil {
			return answer{}, err
		}
		if length += len(line); length > answerMax {
			return answer{}, errTooLarge
		}
		code, isLast, err := parseLine(line)
		if err != nil {
			return answer{}, err
		}
		if said.code != 0 && code != said.code {
			return answer{}, fmt.Errorf("a reply has two codes, %d and %d", said.code, code)
		}
		said.code, said.lines = code, append(said.lines, line[4:])
		if !isLast {
			continue
		}
		if code >= 400 {
			return answer{}, &replyError{said}
		}
		return said, nil
	}
}

// line returns the next line without the CRLF at its end.
func (c *conn) line() (string, error) {
	var line []byte
	for {
		part, err := c.lines.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > lineMax:
			return "", errTooLong
		case errors.Is(err, io.EOF):
			return "", errIncomplete
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		case !utf8.Valid(line):
			return "", errors.New("a reply is not UTF-8")
		case bytes.HasSuffix(line, []byte("\r\n")):
			return string(line[:len(line)-2]), nil
		}
	}
}

// parseLine returns the code of a line, and whether it is the last line of the reply.
func parseLine(line string) (int, bool, error) {
	isAnswer := len(line) >= 4 && line[0] >= '2' && line[0] <= '5' && line[1] >= '0' && line[1] <= '5' &&
		line[2] >= '0' && line[2] <= '9' && (line[3] == ' ' || line[3] == '-')
	if !isAnswer {
		return 0, false, fmt.Errorf("not an SMTP reply: %.100q", line)
	}
	code := int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	return code, line[3] == ' ', nil
}

// until sets a deadline for reads and writes, which also fail when ctx ends. The caller must call the returned function to
// detach ctx.
func (c *conn) until(ctx context.Context, moment time.Time) func() {
	return deadline(ctx, c.Conn, moment)
}

func deadline(ctx context.Context, network net.Conn, moment time.Time) func() {
	_ = network.SetDeadline(moment)
	stop := context.AfterFunc(ctx, func() { _ = network.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}
