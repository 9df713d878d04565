package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// probe returns a connector with a transport that does nothing.
func probe(options ...Option) Connector {
	return Connector{
		Name: "probe-connector", Kind: "probe", About: "Probes.", Concurrency: 7, Options: options,
		Open: func() (Transport, error) { return Transport{Close: func() {}}, nil },
	}
}

// outcome runs a connector with a context that has already ended.
func outcome(connector Connector, env map[string]string, args ...string) (int, string, string) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var stdout, stderr strings.Builder
	code := Run(ctx, connector, args, func(name string) string { return env[name] }, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheVersionIsTheSameAsTesseras(t *testing.T) {
	manifest, err := os.ReadFile("../../../Cargo.toml")
	if err != nil {
		t.Fatal(err)
	}
	if match := regexp.MustCompile(`(?m)^version = "(.*)"$`).FindSubmatch(manifest); match == nil || string(match[1]) != Version {
		t.Errorf("%s is not %s", Version, match)
	}
}

func TestAFlagOverridesTheEnvironmentAndBothOverrideTheDefault(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  string
		want string
	}{
		{nil, "", "default"}, {nil, "env", "env"}, {[]string{"--word", "flag"}, "env", "flag"}, {[]string{"-word=flag"}, "", "flag"},
		{[]string{"--word="}, "env", ""},
	} {
		var got string
		option := Text(&got, Option{Flag: "word", Env: "WORD", Default: "default"})
		if err := parse([]Option{option}, c.args, func(string) string { return c.env }); err != nil || got != c.want {
			t.Errorf("%v, %q: %q, %v", c.args, c.env, got, err)
		}
	}
}

func TestASecretComesFromAFileOrTheEnvironmentAndNeverFromAFlag(t *testing.T) {
	path := file(t, "canary\r\n")
	for name, c := range map[string]struct {
		args  []string
		env   map[string]string
		fault string
	}{
		"a file":                  {[]string{"--token-file", path}, nil, ""},
		"a file of a variable":    {nil, map[string]string{"TOKEN_FILE": path}, ""},
		"a variable":              {nil, map[string]string{"TOKEN": "canary"}, ""},
		"both":                    {[]string{"--token-file", path}, map[string]string{"TOKEN": "canary"}, "--token-file and TOKEN are both set"},
		"an empty file":           {[]string{"--token-file", file(t, "\n")}, nil, "is empty"},
		"no file":                 {nil, map[string]string{"TOKEN_FILE": path + "x"}, "TOKEN_FILE: open "},
		"a file that is no token": {[]string{"--token-file", file(t, strings.Repeat("x", secretMax+1))}, nil, "is larger than"},
		"a flag":                  {[]string{"--token", "canary"}, nil, "not defined: -token"},
	} {
		var got string
		option := Secret(&got, "TOKEN", Option{Flag: "token-file", Env: "TOKEN_FILE"})
		err := parse([]Option{option}, c.args, func(name string) string { return c.env[name] })
		switch {
		case c.fault == "" && (err != nil || got != "canary"):
			t.Errorf("%s: %q, %v", name, got, err)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault) || strings.Contains(err.Error(), "canary")):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheHelpExplainsEveryFlagWithItsVariable(t *testing.T) {
	connector := probe(Option{Flag: "colour", Env: "PROBE_COLOUR", Value: "NAME", Default: "red", Usage: "Which colour."})
	code, out, fault := outcome(connector, nil, "--help")
	if code != 0 || fault != "" {
		t.Errorf("%d %s", code, fault)
	}
	for _, words := range []string{
		"Probes.", "--address HOST:PORT  (TESSERA_ADDRESS)", "--token-file FILE  (TESSERA_TOKEN_FILE, or the value itself in TESSERA_TOKEN)",
		"--ca FILE  (TESSERA_CA)", "--cert FILE  (TESSERA_CERT)", "--key FILE  (TESSERA_KEY)", "--concurrency N  (TESSERA_CONCURRENCY)",
		"Default: 7", "--listen HOST:PORT  (TESSERA_LISTEN)", "--log-format FORMAT  (TESSERA_LOG_FORMAT)",
		"--colour NAME  (PROBE_COLOUR)\n        Which colour.\n        Default: red\n",
	} {
		if !strings.Contains(out, words) {
			t.Errorf("no %q in:\n%s", words, out)
		}
	}
	for line := range strings.SplitSeq(out, "\n") {
		if len(line) > 110 {
			t.Error(line)
		}
	}
}

func TestInvalidSettingsAreReported(t *testing.T) {
	env := map[string]string{"TESSERA_ADDRESS": "127.0.0.1:1", "TESSERA_TOKEN": "canary"}
	for want, args := range map[string][]string{
		"flag provided but not defined: -colour":              {"--colour", "red"},
		`unexpected argument "red"`:                           {"red"},
		`--concurrency: "none" is not a number from 1 to 100`: {"--concurrency", "none"},
		`--concurrency: "0" is not a number from 1 to 100`:    {"--concurrency", "0"},
		`--log-format: "xml" is neither text nor json`:        {"--log-format", "xml"},
		"--ca: open /nowhere":                                 {"--ca", "/nowhere"},
		"contains no certificate in PEM format":               {"--ca", file(t, "none")},
		"--cert and --key must be used together":              {"--cert", "x", "--ca", "system"},
		"--cert requires --ca":                                {"--cert", "x", "--key", "y"},
		"--cert and --key: open":                              {"--cert", "/nowhere", "--key", "y", "--ca", "system"},
	} {
		code, out, fault := outcome(probe(), env, args...)
		if code != 2 || out != "" || !strings.Contains(fault, want) || !strings.HasPrefix(fault, "probe-connector: ") ||
			!strings.HasSuffix(fault, "Try probe-connector --help.\n") || strings.Contains(fault, "canary") {
			t.Errorf("%v: %d %s", args, code, fault)
		}
	}
	code, _, fault := outcome(probe(), map[string]string{"TESSERA_ADDRESS": "127.0.0.1:1"})
	if code != 2 || !strings.Contains(fault, `"tessera connector add NAME --kind probe" creates one`) {
		t.Errorf("%d %s", code, fault)
	}
}

func TestACertificateIsLoadedWithItsKey(t *testing.T) {
	cert, key := pair(t)
	s := settings{ca: cert, cert: cert, key: key}
	config, err := s.tls()
	if err != nil || config.RootCAs == nil || len(config.Certificates) != 1 {
		t.Errorf("%v %v", config, err)
	}
	s = settings{ca: system}
	if config, err := s.tls(); err != nil || config == nil || config.RootCAs != nil || config.InsecureSkipVerify {
		t.Errorf("%v %v", config, err)
	}
	if config, err := (&settings{}).tls(); err != nil || config != nil {
		t.Errorf("%v %v", config, err)
	}
}

// pair writes a certificate and its key to files.
func pair(t *testing.T) (string, string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))),
		file(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
}

func TestAConnectorThatIsStoppedExitsWithSuccess(t *testing.T) {
	env := map[string]string{"TESSERA_ADDRESS": "127.0.0.1:1", "TESSERA_TOKEN": "canary"}
	if code, out, fault := outcome(probe(), env); code != 0 || out != "" || strings.Contains(fault, "canary") {
		t.Errorf("%d %s %s", code, out, fault)
	}
}
