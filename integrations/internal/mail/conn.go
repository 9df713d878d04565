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
	// lineMax is the part of a reply's line that is kept, in bytes. The rest is skipped.
	lineMax = 1000
	// answerMax is the maximum length of a whole reply, in bytes.
	answerMax = 100_000
	// challengesMax is the maximum number of challenges during a login.
	challengesMax = 10
	// challenge is the code of a reply that asks for the next part of a login.
	challenge = 334
)

// A class is the kind of reply that a command must get: its first digit.
type class int

const (
	done class = 2
	more class = 3
)

// A fault is an error of the protocol, with the same text as in Tessera's own workers.
type fault string

func (f fault) Error() string { return string(f) }

const (
	errNoTLS      fault = "STARTTLS is not supported on this server"
	errMechanism  fault = "No compatible authentication mechanism was found"
	errChallenge  fault = "This mechanism does not expect a challenge"
	errUnread     fault = "Could not read auth challenge"
	errQuestion   fault = "Unrecognized challenge"
	errChallenges fault = "Unexpected number of challenges"
	errTooLarge   fault = "SMTP response too large"
	errIncomplete fault = "incomplete response"
)

// An answer is the reply to one command. Its three digits decide what it means; its text, or the lack of one, and its encoding
// never do (RFC 5321, 4.2).
type answer struct {
	code  int
	lines []string
}

// words returns the code and the text. An enhanced status code (RFC 2034) that is repeated on each line is included once.
func (a answer) words() string {
	repeated := enhancedCode(a)
	text := fmt.Sprint(a.code)
	for n, line := range a.lines {
		rest, found := strings.CutPrefix(line, repeated)
		if n > 0 && repeated != "" && found && strings.HasPrefix(rest, " ") {
			line = strings.TrimLeft(rest, " ")
		}
		if line != "" {
			text += " " + line
		}
	}
	return text
}

// A replyError is a reply that rejects a command, or that does not fit it.
type replyError struct{ answer }

// Error returns the code and the text.
func (e *replyError) Error() string { return e.words() }

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
	words := strings.Fields(strings.Join(a.lines, " "))
	if len(words) == 0 {
		return ""
	}
	return words[0]
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
	said, err := c.answer()
	if err == nil {
		_, err = check(done, said)
	}
	if err != nil {
		return nil, err
	}
	return c, c.hello(hello)
}

// hello sends EHLO and stores the extensions that the server offers. If that fails, it sends QUIT.
func (c *conn) hello(name string) error {
	said, err := c.command("EHLO "+name, done)
	if err != nil {
		c.quit()
		return err
	}
	c.offers = map[string]bool{}
	for _, line := range said.lines[1:] {
		words := strings.Fields(strings.ReplaceAll(strings.ToUpper(line), "AUTH=", "AUTH "))
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
	if _, err := c.command("STARTTLS", done); err != nil {
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
		said, err := c.exchange("AUTH PLAIN " + encode([]byte("\x00"+user+"\x00"+password)))
		if err == nil && said.code == challenge {
			return errChallenge
		}
		if err == nil {
			_, err = check(done, said)
		}
		return err
	case !c.offers["AUTH LOGIN"]:
		return errMechanism
	}
	said, err := c.exchange("AUTH LOGIN")
	for round := range challengesMax {
		if err == nil && said.code != challenge {
			_, err = check(done, said)
			if err != nil && round > 0 {
				c.quit()
			}
			return err
		}
		if err != nil {
			return err
		}
		reply, err := replyTo(said, user, password)
		if err != nil {
			return err
		}
		if said, err = c.exchange(encode([]byte(reply))); err != nil {
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

// command sends one line and returns the reply; a reply of another class is a *replyError.
func (c *conn) command(line string, expected class) (answer, error) {
	said, err := c.exchange(line)
	if err != nil {
		return answer{}, err
	}
	return check(expected, said)
}

// exchange sends one line and returns the reply, whatever its code.
func (c *conn) exchange(line string) (answer, error) {
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		return answer{}, err
	}
	return c.answer()
}

// check returns the reply, or a *replyError if it is not of the expected class.
func check(expected class, said answer) (answer, error) {
	if said.code/100 != int(expected) {
		return answer{}, &replyError{said}
	}
	return said, nil
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
	said, err := c.answer()
	if err != nil {
		return answer{}, err
	}
	return check(done, said)
}

// quit sends QUIT, and closes the connection without an error if the server has already closed it.
func (c *conn) quit() {
	_, _ = c.command("QUIT", done)
	_ = c.Close()
}

// answer reads a reply of one or more lines. The last line decides. A server that closes the connection after at least one line
// has answered.
func (c *conn) answer() (answer, error) {
	said, left := answer{}, answerMax
	for {
		line, err := c.line(&left)
		if errors.Is(err, errIncomplete) && said.code != 0 {
			return said, nil
		}
		if err != nil {
			return answer{}, err
		}
		code, rest, err := parseLine(line)
		if err != nil {
			return answer{}, err
		}
		text, isContinued := strings.CutPrefix(rest, "-")
		said.code, said.lines = code, append(said.lines, strings.TrimSpace(text))
		if !isContinued {
			return said, nil
		}
	}
}

// line returns the next line without its end, or its first lineMax bytes. Bytes that are not UTF-8 are read as Latin-1.
func (c *conn) line(left *int) (string, error) {
	var line []byte
	for {
		part, err := c.lines.ReadSlice('\n')
		if *left -= len(part); *left < 0 {
			return "", errTooLarge
		}
		line = append(line, part[:min(len(part), lineMax-min(lineMax, len(line)))]...)
		isEnd := err == nil || errors.Is(err, io.EOF) && len(line) > 0
		switch {
		case isEnd:
			return decode(bytes.TrimRight(line, "\r\n")), nil
		case errors.Is(err, io.EOF):
			return "", errIncomplete
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}

// decode decodes the text of a reply as UTF-8, or as Latin-1 if it is not UTF-8.
func decode(text []byte) string {
	if utf8.Valid(text) {
		return string(text)
	}
	runes := make([]rune, len(text))
	for n, b := range text {
		runes[n] = rune(b)
	}
	return string(runes)
}

// parseLine returns the code of a line, and the rest of the line, which begins with a hyphen if another line follows.
func parseLine(line string) (int, string, error) {
	isDigit := func(n int) bool { return n < len(line) && line[n] >= '0' && line[n] <= '9' }
	isCode := isDigit(0) && isDigit(1) && isDigit(2) && !isDigit(3) && line[0] >= '2' && line[0] <= '5'
	if !isCode {
		return 0, "", fmt.Errorf("not an SMTP reply: %.100q", line)
	}
	code := int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	return code, line[3:], nil
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
