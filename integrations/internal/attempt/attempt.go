// Package attempt holds what one attempt of a delivery came to, in the form in which the workers in Tessera's own binary
// record it, and the limits of its texts.
package attempt

import (
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

const (
	// DetailMax is the longest sentence kept of an attempt, in characters.
	DetailMax = 500
	// ExcerptMax is the most that is kept of what a receiver answered, in bytes.
	ExcerptMax = 4096
	// TroubleWait is how long a receiver is left alone at least that is overloaded or did not answer in time.
	TroubleWait = time.Minute
)

// What an attempt can come to, and what it can say of its endpoint, under short names.
const (
	Delivered = tesserav1.Outcome_OUTCOME_DELIVERED
	Retry     = tesserav1.Outcome_OUTCOME_RETRY
	Permanent = tesserav1.Outcome_OUTCOME_PERMANENT

	// Works: the endpoint took the message, or judged it.
	Works = tesserav1.Health_HEALTH_WORKS
	// Fails: it did not work.
	Fails = tesserav1.Health_HEALTH_FAILS
	// Unknown: it was not asked.
	Unknown = tesserav1.Health_HEALTH_UNSPECIFIED
)

// An Attempt is what one attempt came to. No text in it holds a secret.
type Attempt struct {
	Outcome tesserav1.Outcome
	// StatusCode is the receiver's, of HTTP or SMTP; 0 when it gave none.
	StatusCode int
	// Detail is one sentence for a person.
	Detail string
	// Response is the beginning of what the receiver answered.
	Response string
	// Recipients holds what a mail server said of each recipient; empty for a webhook.
	Recipients []*tesserav1.RecipientAnswer
	Health     tesserav1.Health
	// Wait is how long the receiver asked to be left alone, or its trouble asks for.
	Wait time.Duration
}

// New returns an attempt that came to outcome and says nothing of the endpoint yet.
func New(outcome tesserav1.Outcome, detail string) Attempt {
	return Attempt{Outcome: outcome, Detail: Sentence(detail)}
}

// Sentence returns text as one line of at most DetailMax characters.
func Sentence(text string) string {
	line := strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text))
	if utf8.RuneCountInString(line) <= DetailMax {
		return line
	}
	return string([]rune(line)[:DetailMax-1]) + "…"
}

// Excerpt returns the beginning of an answer: at most ExcerptMax bytes, cut between characters, without U+0000.
func Excerpt(text string) string {
	text = strings.ReplaceAll(text, "\x00", "\uFFFD")
	if len(text) <= ExcerptMax {
		return text
	}
	end := ExcerptMax
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// Bottom returns the words of the error that all errors around it are about.
func Bottom(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

// Text returns bytes as text, each longest beginning of a character that breaks off, and each byte that begins none,
// replaced by U+FFFD.
func Text(bytes []byte) string {
	var text strings.Builder
	for len(bytes) > 0 {
		r, size := utf8.DecodeRune(bytes)
		if r == utf8.RuneError && size == 1 {
			for size < min(len(bytes), utf8.UTFMax) && !utf8.FullRune(bytes[:size+1]) {
				size++
			}
		}
		text.WriteRune(r)
		bytes = bytes[size:]
	}
	return text.String()
}
