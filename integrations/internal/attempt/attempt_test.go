package attempt

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestASentenceIsOneLineOfBoundedLength(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{" a\r\nb\x00c\u0085d\t", "a  b c d"},
		{"", ""},
		{strings.Repeat("ü", DetailMax), strings.Repeat("ü", DetailMax)},
		{strings.Repeat("ü", DetailMax+1), strings.Repeat("ü", DetailMax-1) + "…"},
	} {
		if got := Sentence(c.text); got != c.want {
			t.Errorf("Sentence(%q) = %q", c.text, got)
		}
	}
}

func TestAnExcerptIsTruncatedAtTheEndOfACharacter(t *testing.T) {
	for _, c := range []struct {
		text string
		want int
	}{
		{strings.Repeat("x", ExcerptMax), ExcerptMax},
		{strings.Repeat("x", ExcerptMax+1), ExcerptMax},
		{"x" + strings.Repeat("ü", ExcerptMax), ExcerptMax - 1},
		{strings.Repeat("🦀", ExcerptMax), ExcerptMax},
		{strings.Repeat("\x00", ExcerptMax), ExcerptMax - 1},
	} {
		got := Excerpt(c.text)
		if len(got) != c.want || !utf8.ValidString(got) || strings.Contains(got, "\x00") {
			t.Errorf("Excerpt of %d bytes has %d", len(c.text), len(got))
		}
	}
}

func TestInvalidUTF8IsReplacedInTheStandardWay(t *testing.T) {
	for _, c := range []struct{ bytes, want string }{
		{"a\xffb", "a\uFFFDb"},
		{"\xe2\x82", "\uFFFD"},
		{"\xe2\x82x", "\uFFFDx"},
		{"\xf0\x9f\xa6", "\uFFFD"},
		{"\xff\xfe", "\uFFFD\uFFFD"},
		{"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},
		{"\xc0\xaf", "\uFFFD\uFFFD"},
		{"ü🦀\uFFFD", "ü🦀\uFFFD"},
	} {
		if got := Text([]byte(c.bytes)); got != c.want {
			t.Errorf("Text(%q) = %q, not %q", c.bytes, got, c.want)
		}
	}
}
