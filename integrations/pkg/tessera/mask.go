package tessera

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maskTextMax is the part of a text that is searched and kept, in bytes; four times as much as is stored of a response.
	maskTextMax = 4 * ResponseMax
	// formMin is the minimum length of a form of a secret, beginMin that of the beginning of a form at the end of a truncated text,
	// and wordMin that of a word in a secret that is masked alone; all in letters and digits.
	formMin, beginMin, wordMin = 4, 6, 8
	// partsMax is the maximum number of parts of one secret, such as the password of Basic credentials.
	partsMax = 12
	// escapedMax is how many times escapes are decoded: a URL in a URL is escaped twice.
	escapedMax = 3
	// base64Edge is the number of letters at each end of a secret in base64 that depend on its neighbours.
	base64Edge = 2
)

// A Mask hides secrets in texts of receivers, which may send back what they got, also encoded, reversed, in capitals or broken into
// lines. It compares letters and digits only, in lower case, with escapes decoded.
type Mask struct{ secrets []hidden }

type hidden struct {
	name string
	// exact are compared byte for byte, forms by letters and digits; these with the number of neighbours at each end that belong to them.
	exact []string
	forms map[string]int
}

// NewMask returns a mask for secrets by name.
func NewMask(secrets map[string]string) *Mask {
	mask := &Mask{}
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		value := secrets[name]
		if value == "" {
			continue
		}
		bare := strings.TrimPrefix(value, "whsec_")
		one := hidden{name: name, exact: []string{value, bare, strings.Trim(quoted(bare), `"`)}, forms: map[string]int{}}
		for _, part := range partsOf(value) {
			one.addForms(part)
		}
		mask.secrets = append(mask.secrets, one)
	}
	return mask
}

// Text returns the beginning of a text, at most 16 KiB, with each secret replaced by "(secret NAME)".
func (m *Mask) Text(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	// At the end of a truncated text, a secret may have begun.
	cut := len(text) > ResponseMax-utf8.UTFMax || strings.HasSuffix(text, "…")
	if len(text) > maskTextMax {
		end := maskTextMax
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	if len(m.secrets) == 0 {
		return text
	}
	type place struct {
		from, to int
		name     string
	}
	var found []place
	views := viewsOf(text)
	for _, secret := range m.secrets {
		for _, form := range secret.exact {
			for _, at := range indices(text, form) {
				found = append(found, place{at, at + len(form), secret.name})
			}
		}
		for form, edge := range secret.forms {
			for _, view := range views {
				for _, span := range view.places(text, form, edge, cut) {
					found = append(found, place{span[0], span[1], secret.name})
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b place) int {
		if a.from != b.from {
			return a.from - b.from
		}
		if a.to != b.to {
			return b.to - a.to
		}
		return strings.Compare(a.name, b.name)
	})
	var masked strings.Builder
	from := 0
	for at := 0; at < len(found); {
		one := found[at]
		// Places that overlap or touch become one.
		for at++; at < len(found) && found[at].from <= one.to; at++ {
			one.to = max(one.to, found[at].to)
		}
		masked.WriteString(text[from:one.from] + "(secret " + one.name + ")")
		from = one.to
	}
	return masked.String() + text[from:]
}

// partsOf returns the parts of a secret that a receiver may send back alone: without its scheme or prefix, words, what is in its base64,
// and the password after a user.
func partsOf(value string) []string {
	var parts []string
	add := func(part string) {
		if len(parts) < partsMax && !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	add(value)
	bare := strings.TrimPrefix(value, "whsec_")
	// The first of several words is a scheme, such as Bearer.
	if at := strings.IndexFunc(bare, unicode.IsSpace); at >= 0 {
		bare = strings.TrimSpace(bare[at:])
	}
	add(bare)
	words := []string{bare}
	for _, word := range strings.FieldsFunc(bare, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(",;=\"'/?&", r) }) {
		if len(letters(word)) >= wordMin {
			words = append(words, word)
		}
	}
	for _, word := range words {
		if _, password, found := strings.Cut(word, ":"); found {
			add(password)
		}
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			decoded, err := encoding.DecodeString(word)
			if err != nil {
				continue
			}
			add(string(decoded))
			if _, password, found := strings.Cut(string(decoded), ":"); found && utf8.Valid(decoded) {
				add(password)
			}
			break
		}
		add(word)
	}
	return parts
}

// addForms adds the forms of a part of a secret.
func (h *hidden) addForms(part string) {
	add := func(form string, edge int) {
		for _, form := range []string{form, reversed(form)} {
			if len(form) >= formMin {
				h.forms[form] = max(edge, h.forms[form])
			}
		}
	}
	digits := hex.EncodeToString([]byte(part))
	spellings := []string{part, base64.RawStdEncoding.EncodeToString([]byte(part)), digits, strings.ToUpper(digits)}
	if utf8.ValidString(part) {
		add(letters(part), 0)
		add(viewOf(decode(unitsOf(part), false)).letters, 0)
		// In URLs, other characters are escaped byte by byte, and are not compared.
		add(letters(strings.Map(func(r rune) rune {
			if r > unicode.MaxASCII {
				return -1
			}
			return r
		}, part)), 0)
		spellings = append(spellings, strings.ToUpper(part), strings.ToLower(part), reversed(part))
	}
	for _, spelling := range spellings {
		var prefixed, decimal strings.Builder
		for _, b := range []byte(spelling) {
			fmt.Fprintf(&prefixed, "0x%02x", b)
			decimal.WriteString(strconv.Itoa(int(b)))
		}
		add(hex.EncodeToString([]byte(spelling)), 0)
		add(prefixed.String(), 0)
		add(decimal.String(), 0)
		for offset := range 3 {
			add(letters(base64Within(spelling, offset)), base64Edge)
		}
	}
}

// base64Within returns the letters that text becomes in base64 after offset other bytes, without those that depend on its neighbours.
func base64Within(text string, offset int) string {
	encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, offset), text...))
	start, end := 0, len(encoded)
	if offset > 0 {
		start = offset + 1
	}
	if (offset+len(text))%3 != 0 {
		end--
	}
	return encoded[min(start, end):end]
}

func reversed(text string) string {
	runes := []rune(text)
	slices.Reverse(runes)
	return string(runes)
}

// letters returns the letters and digits of a text in lower case.
func letters(text string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsNumber(r) {
			return r
		}
		return -1
	}, text))
}

// A unit is a character with its place in the text.
type unit struct {
	r        rune
	from, to int
}

func unitsOf(text string) []unit {
	var units []unit
	for at, r := range text {
		units = append(units, unit{r, at, at + utf8.RuneLen(r)})
	}
	return units
}

// A view is the letters and digits of a text, perhaps decoded, with the place of each byte.
type view struct {
	letters string
	units   []unit
}

func viewOf(units []unit) view {
	var v view
	var text strings.Builder
	for _, one := range units {
		lower := letters(string(one.r))
		text.WriteString(lower)
		for range len(lower) {
			v.units = append(v.units, one)
		}
	}
	v.letters = text.String()
	return v
}

// viewsOf returns the text as it is, with escapes decoded once and more often, and as quoted-printable.
func viewsOf(text string) []view {
	plain := unitsOf(text)
	views := []view{viewOf(plain)}
	if strings.ContainsAny(text, `%\&`) {
		units := plain
		for range escapedMax {
			units = decode(units, false)
			views = append(views, viewOf(units))
		}
	}
	if strings.Contains(text, "=") {
		views = append(views, viewOf(decode(plain, true)))
	}
	return views
}

// places returns the places of a form in the text, and that of its beginning at the end of a text that is cut.
func (v view) places(text, form string, edge int, cut bool) [][2]int {
	var spans [][2]int
	for _, at := range indices(v.letters, form) {
		spans = append(spans, [2]int{at, at + len(form)})
	}
	for length := min(len(v.letters), len(form)-1); cut && length >= beginMin; length-- {
		if strings.HasSuffix(v.letters, form[:length]) {
			spans = append(spans, [2]int{len(v.letters) - length, len(v.letters)})
			break
		}
	}
	near := func(from, to int) bool { return from <= to && strings.Trim(text[from:to], "\r\n=") == "" }
	for at, span := range spans {
		from, to := v.units[span[0]].from, v.units[span[1]-1].to
		// Neighbours with nothing or a line break between them.
		for before := span[0] - 1; before >= max(0, span[0]-edge) && near(v.units[before].to, from); before-- {
			from = v.units[before].from
		}
		for after := span[1]; after < min(len(v.units), span[1]+edge) && near(to, v.units[after].from); after++ {
			to = v.units[after].to
		}
		spans[at] = [2]int{from, to}
	}
	return spans
}

func indices(text, form string) []int {
	var places []int
	for from := 0; form != ""; {
		at := strings.Index(text[from:], form)
		if at < 0 {
			break
		}
		places = append(places, from+at)
		from += at + len(form)
	}
	return places
}

// escapes matches the escapes of URLs, JSON and HTML at the beginning of a text, printable those of quoted-printable.
var (
	escapes   = regexp.MustCompile(`^(%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\[nrtbf]|\\|&#[0-9]{1,7};|&#[xX][0-9A-Fa-f]{1,6};|&[A-Za-z]{2,8};)`)
	printable = regexp.MustCompile(`^=(\r?\n|[0-9A-Fa-f]{2})`)
)

// decode decodes escapes. Bytes beyond ASCII are parts of a character, which is compared without them.
func decode(units []unit, quotedPrintable bool) []unit {
	var text strings.Builder
	starts := map[int]int{}
	for at, one := range units {
		starts[text.Len()] = at
		text.WriteRune(one.r)
	}
	starts[text.Len()] = len(units)
	pattern := escapes
	if quotedPrintable {
		pattern = printable
	}
	rest, at := text.String(), 0
	var output []unit
	for at < len(rest) {
		here := starts[at]
		escape := ""
		if strings.ContainsRune(`%\&=`, rune(rest[at])) {
			escape = pattern.FindString(rest[at:min(len(rest), at+12)])
		}
		if escape == "" {
			output = append(output, units[here])
			at += utf8.RuneLen(units[here].r)
			continue
		}
		next := starts[at+len(escape)]
		if r, found := meaning(escape); found {
			output = append(output, unit{r, units[here].from, units[next-1].to})
		}
		at += len(escape)
	}
	return output
}

// meaning returns the character for which an escape stands, if it is compared.
func meaning(escape string) (rune, bool) {
	digits, base, limit := "", 16, rune(unicode.MaxASCII)
	switch {
	case escape[0] == '%' || escape[0] == '=':
		digits = strings.TrimSpace(escape[1:])
	case strings.HasPrefix(escape, `\u`):
		digits, limit = escape[2:], unicode.MaxRune
	case strings.HasPrefix(escape, `\x`):
		digits = escape[2:]
	case escape[0] == '&':
		r, size := utf8.DecodeRuneInString(html.UnescapeString(escape))
		return r, size > 0 && r != '&'
	}
	code, err := strconv.ParseUint(digits, base, 32)
	return rune(code), err == nil && rune(code) <= limit && utf8.ValidRune(rune(code))
}

// quoted returns text as a JSON string with as few escapes as possible.
func quoted(text string) string {
	short := map[rune]string{
		'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`,
	}
	var json strings.Builder
	for _, r := range text {
		if escape, found := short[r]; found {
			json.WriteString(escape)
		} else if r < ' ' {
			fmt.Fprintf(&json, `\u%04x`, r)
		} else {
			json.WriteRune(r)
		}
	}
	return `"` + json.String() + `"`
}
