// Package scenarios loads the tables in testdata, which specify the common behaviour of the connectors and of the workers in
// Tessera's own binary. crates/tessera-core/src/delivery/tests.rs runs the same tables against the workers.
package scenarios

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"tessera.dev/integrations/internal/attempt"
)

// Expected is the expected result of an attempt. A detail that ends in * is a prefix; the rest comes from the operating
// system or a library.
type Expected struct {
	Name, Outcome, Health, Detail string
	Status                        int
	// Wait is in seconds.
	Wait int64
}

// Load reads a table from testdata. It works in tests of the packages in internal.
func Load[Scenario any](t *testing.T, file string) []Scenario {
	t.Helper()
	text, err := os.ReadFile("../../testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var table []Scenario
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	return table
}

// Check compares an attempt with the expected one, after replacing placeholders in the detail: fill holds pairs of a
// placeholder and its value.
func (e Expected) Check(t *testing.T, made attempt.Attempt, fill ...string) {
	t.Helper()
	outcome := strings.ToLower(strings.TrimPrefix(made.Outcome.String(), "OUTCOME_"))
	health := strings.ToLower(strings.TrimPrefix(made.Health.String(), "HEALTH_"))
	if made.Health == attempt.Unknown {
		health = "unknown"
	}
	wait := int64(made.Wait / time.Second)
	if outcome != e.Outcome || health != e.Health || made.StatusCode != e.Status || wait != e.Wait || !IsLike(made.Detail, e.Detail, fill...) {
		t.Errorf("%s: got %+v, want %+v", e.Name, made, e)
	}
}

// IsLike reports whether a text matches a pattern, which may end in *.
func IsLike(text, pattern string, fill ...string) bool {
	pattern = strings.NewReplacer(fill...).Replace(pattern)
	if beginning, isBeginning := strings.CutSuffix(pattern, "*"); isBeginning {
		return strings.HasPrefix(text, beginning)
	}
	return text == pattern
}

// Bytes encodes each character of a text as one byte, so that tables can contain responses that are not UTF-8.
func Bytes(text string) string {
	var bytes []byte
	for _, r := range text {
		bytes = append(bytes, byte(r))
	}
	return string(bytes)
}
