// Package attempt represents the result of one attempt at a delivery, in the same form as the workers in Tessera's own
// binary record it.
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
	// DetailMax is the maximum length of a detail, in characters.
	DetailMax = 500
	// ExcerptMax is the maximum size of the stored part of a response, in bytes.
	ExcerptMax = 4096
	// TroubleWait is the minimum delay before a retry if the receiver is overloaded or did not respond in time.
	TroubleWait = time.Minute
)

// Short names for outcomes and for the health of an endpoint.
const (
	Delivered = tesserav1.Outcome_OUTCOME_DELIVERED
	Retry     = tesserav1.Outcome_OUTCOME_RETRY
	Permanent = tesserav1.Outcome_OUTCOME_PERMANENT

	// Works means that the endpoint accepted the message or rejected it.
	Works = tesserav1.Health_HEALTH_WORKS
	// Fails means that the endpoint did not work.
	Fails = tesserav1.Health_HEALTH_FAILS
	// Unknown means that the endpoint was not contacted.
	Unknown = tesserav1.Health_HEALTH_UNSPECIFIED
)

// An Attempt is the result of one attempt. Its texts contain no secrets.
type Attempt struct {
	Outcome tesserav1.Outcome
	// StatusCode is the receiver's HTTP or SMTP status code; 0 if none was received.
	StatusCode int
	// Detail is one sentence for people to read.
	Detail string
	// Response is the beginning of the receiver's response.
	Response string
	// Recipients are the mail server's replies for each recipient; empty for a webhook.
	Recipients []*tesserav1.RecipientAnswer
	Health     tesserav1.Health
	// Wait is the minimum delay before a retry that the receiver requested, or TroubleWait.
	Wait time.Duration
}

// New returns an attempt with an outcome and a detail; the health of the endpoint is Unknown.
func New(outcome tesserav1.Outcome, detail string) Attempt {
	return Attempt{Outcome: outcome, Detail: Sentence(detail)}
}

// Masked returns the attempt with all of its texts masked and then truncated. mask replaces secrets, which the receiver may have
// sent back.
func (made Attempt) Masked(mask func(string) string) Attempt {
	made.Detail, made.Response = Sentence(mask(made.Detail)), Excerpt(mask(made.Response))
	for _, recipient := range made.Recipients {
		recipient.Answer = Sentence(mask(recipient.Answer))
	}
	return made
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

// Excerpt returns the beginning of a response: at most ExcerptMax bytes, truncated at the end of a character, with U+0000
// replaced by U+FFFD.
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

// Bottom returns the text of the innermost wrapped error.
func Bottom(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

// Text decodes bytes as UTF-8. It replaces each invalid byte, and each incomplete character as a whole, by U+FFFD.
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
