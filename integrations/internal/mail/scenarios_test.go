package mail

import (
	"slices"
	"strings"
	"testing"

	"tessera.dev/integrations/internal/scenarios"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// A mailScenario is one line of the table, which Tessera's own workers are tested with as well.
type mailScenario struct {
	scenarios.Expected
	// Answers are the replies of the server by prefix of the command; nil closes the connection.
	Answers     map[string]*string
	User, Query string
	To          []string
	Recipients  [][3]string
	Commands    []string
}

// answer returns the reply to a line: that of the longest prefix in the table, or that of willing.
func (s mailScenario) answer(line string) string {
	named, isNamed := "", false
	for key := range s.Answers {
		isAlike := line == key || key != "" && key != "." && strings.HasPrefix(line, key)
		if isAlike && len(key) >= len(named) {
			named, isNamed = key, true
		}
	}
	switch {
	case !isNamed:
		return willing(line)
	case s.Answers[named] == nil:
		return hangUp
	}
	return scenarios.Bytes(*s.Answers[named])
}

func TestMailsHaveTheResultsInTheTable(t *testing.T) {
	table := scenarios.Load[mailScenario](t, "smtp.json")
	if len(table) <= 40 {
		t.Fatal(len(table))
	}
	for _, scenario := range table {
		server := serve(t, scenario.answer)
		transport := server.transportWith(t, "smtp://"+strings.ReplaceAll(scenario.User, "%", "%%")+"%s"+scenario.Query)
		made := transport.Send(t.Context(), hello, mail(scenario.To...))
		scenario.Check(t, made, "{server}", server.address)
		isAlike := slices.EqualFunc(made.Recipients, scenario.Recipients, func(got *tesserav1.RecipientAnswer, want [3]string) bool {
			outcome := strings.ToLower(strings.TrimPrefix(got.GetOutcome().String(), "OUTCOME_"))
			return got.GetAddress() == want[0] && outcome == want[1] && scenarios.IsLike(got.GetAnswer(), want[2], "{server}", server.address)
		})
		if !isAlike {
			t.Errorf("%s: %v", scenario.Name, said(made))
		}
		if scenario.Commands != nil && !slices.Equal(server.commands(), scenario.Commands) {
			t.Errorf("%s: %q", scenario.Name, server.commands())
		}
	}
}
