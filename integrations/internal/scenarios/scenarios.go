// Package scenarios reads the tables of what the connectors and the workers in Tessera's own binary have to do alike. The
// other half, which plays the same tables against the workers, stands in crates/tessera-core/src/delivery.
package scenarios

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"tessera.dev/integrations/internal/attempt"
)

// Expected is what an attempt has to come to. A text that ends in * is the beginning of one whose end is an operating
// system's or a library's.
type Expected struct {
	Name, Outcome, Health, Detail string
	Status                        int
	// Wait is in seconds.
	Wait int64
}

// Load reads a table. Tests of packages that stand beside this one find it.
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

// Check compares an attempt, with what stands in braces filled in by pairs of texts.
func (e Expected) Check(t *testing.T, made attempt.Attempt, fill ...string) {
	t.Helper()
	outcome := strings.ToLower(strings.TrimPrefix(made.Outcome.String(), "OUTCOME_"))
	health := strings.ToLower(strings.TrimPrefix(made.Health.String(), "HEALTH_"))
	if made.Health == attempt.Unknown {
		health = "unknown"
	}
	wait := int64(made.Wait / time.Second)
	if outcome != e.Outcome || health != e.Health || made.StatusCode != e.Status || wait != e.Wait || !IsLike(made.Detail, e.Detail, fill...) {
		t.Errorf("%s: %+v, not %+v", e.Name, made, e)
	}
}

// IsLike tells whether a text is what a pattern says.
func IsLike(text, pattern string, fill ...string) bool {
	pattern = strings.NewReplacer(fill...).Replace(pattern)
	if beginning, isBeginning := strings.CutSuffix(pattern, "*"); isBeginning {
		return strings.HasPrefix(text, beginning)
	}
	return text == pattern
}

// Bytes returns a text whose characters are one byte each, so that answers can be no UTF-8.
func Bytes(text string) string {
	var bytes []byte
	for _, r := range text {
		bytes = append(bytes, byte(r))
	}
	return string(bytes)
}
