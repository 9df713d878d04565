package main

import (
	"strings"
	"testing"

	"tessera.dev/integrations/internal/cli"
)

func TestTheMailServerMustBeNamedAndItsPasswordIsNotRepeated(t *testing.T) {
	for url, want := range map[string]string{
		"":                          "neither TESSERA_SMTP_URL nor --smtp-url-file nor TESSERA_SMTP_URL_FILE names the mail server",
		"http://u:canary@mail":      "the mail server's URL begins with http:; use smtp://host:port or smtps://host:port",
		"smtp://:canary@mail":       "the mail server's URL needs a user and a password, or neither",
		"smtp://u:canary@mail/path": "the mail server's URL holds more than a host and a port",
	} {
		env := map[string]string{"TESSERA_TOKEN": "tsc_canary", "TESSERA_SMTP_URL": url}
		var stdout, stderr strings.Builder
		code := cli.Run(t.Context(), connector(), nil, func(name string) string { return env[name] }, &stdout, &stderr)
		if code != 2 || !strings.Contains(stderr.String(), want) || strings.Contains(stderr.String(), "canary") {
			t.Errorf("%q: %d %s", url, code, stderr.String())
		}
	}
}

func TestEHLOSaysTheHostWherePeopleSeeTessera(t *testing.T) {
	for url, want := range map[string]string{
		"https://desk.example.com/t/7": "desk.example.com", "http://127.0.0.1:8080/t/7": "127.0.0.1", "http://[::1]:8080/": "::1", "": "", "%": "",
	} {
		if got := hostOf(url); got != want {
			t.Errorf("%q: %q", url, got)
		}
	}
}
