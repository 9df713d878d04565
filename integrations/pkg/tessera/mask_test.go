package tessera_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"tessera.dev/integrations/pkg/tessera"
)

const token = `T0ken-4f9a/Zq+é&"x`

func spread(text, between string) string {
	return strings.Join(strings.Split(text, ""), between)
}

func backwards(text string) string {
	runes := []rune(text)
	slices.Reverse(runes)
	return string(runes)
}

func TestASecretIsMaskedInWhateverFormItComesBack(t *testing.T) {
	std := base64.StdEncoding
	quoted, _ := json.Marshal(token)
	twice, _ := json.Marshal(string(quoted))
	digits := hex.EncodeToString([]byte(token))
	forms := []string{
		token, strings.ToUpper(token), strings.ToLower(token), backwards(token), digits, strings.ToUpper(digits), spread(digits, " "),
		url.QueryEscape(token), url.QueryEscape(url.QueryEscape(token)), html.EscapeString(token), string(quoted), string(twice),
		spread(token, "\n"), spread(token, "=\r\n"), spread(token, "-"), fmt.Sprint([]byte(token)), std.EncodeToString([]byte(digits)),
		std.EncodeToString([]byte(backwards(token))), std.EncodeToString([]byte(strings.ToUpper(token))), backwards(std.EncodeToString([]byte(token))),
	}
	for _, before := range []string{"", "u", "us", "user:"} {
		for _, encoding := range []*base64.Encoding{std, base64.URLEncoding, base64.RawStdEncoding} {
			encoded := encoding.EncodeToString([]byte(before + token))
			forms = append(forms, encoded, spread(encoded, "\n"), url.QueryEscape(encoded), strings.ToLower(encoded))
		}
	}
	mask := tessera.NewMask(map[string]string{"token": token})
	for _, form := range forms {
		masked := mask.Text("you sent <" + form + "> to us")
		left := strings.ReplaceAll(masked, "(secret token)", "")
		left = strings.TrimSuffix(strings.TrimPrefix(left, "you sent <"), "> to us")
		// The user's name may stay, also in base64.
		shown := strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				return r
			}
			return -1
		}, left)
		if !strings.Contains(masked, "(secret token)") || len(shown) > len("dXNlcj") {
			t.Errorf("%q: %q", form, masked)
		}
	}
}

func TestATextWithoutSecretsStaysAsItIs(t *testing.T) {
	mask := tessera.NewMask(map[string]string{"token": token, "none": "", "marks": "?!"})
	for _, text := range []string{"", "ok", `{"ok": true, "url": "https://chat.example/a?b=%20c"}`, "T&eacute;l =C3=A9 50 % \\ \\u12 %", "ünïcödé – é&"} {
		if got := mask.Text(text); got != text {
			t.Errorf("%q: %q", text, got)
		}
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("reporter:h0rse-staple"))
	mask = tessera.NewMask(map[string]string{"s": basic})
	for said, want := range map[string]string{
		"Basic authentication for reporter": "Basic authentication for reporter", "got h0rse-staple.": "got (secret s).",
		"got ELPATS-ESR0H.": "got (secret s).", "cut at h0rse-st…": "cut at (secret s)…",
	} {
		if got := mask.Text(said); got != want {
			t.Errorf("%q: %q", said, got)
		}
	}
}
