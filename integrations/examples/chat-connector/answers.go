package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// answerMax is how much of a response is read, in bytes.
const answerMax = 64 << 10

// hopeless matches the errors of Slack and Mattermost that a retry cannot fix.
var hopeless = regexp.MustCompile(`invalid_payload|no_text|user_not_found|channel_not_found|not_in_channel|is_archived|` +
	`action_prohibited|no_service|web\.incoming_webhook\.`)

// judge returns the result of a delivery from the response. If the response is JSON and identifies the message, it stores that for the next
// message of the ticket, which becomes a reply.
func (c *connector) judge(delivery *tessera.Delivery, place string, response *http.Response) error {
	words, _ := io.ReadAll(io.LimitReader(response.Body, answerMax))
	var said struct {
		OK *bool `json:"ok"`
		root
	}
	_ = json.Unmarshal(words, &said) // Most servers return "ok", which is not JSON.
	report := tessera.Report{StatusCode: response.StatusCode, Response: c.mask.Text(string(words)), Health: tesserav1.Health_HEALTH_WORKS}
	if response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= 500 {
		report.Health = tesserav1.Health_HEALTH_FAILS
	}
	delivery.Report(report)
	refused := said.OK != nil && !*said.OK
	if response.StatusCode/100 == 2 && !refused {
		c.threads.keep(place, said.root)
		return nil
	}
	err := fmt.Errorf("the chat server returned %d: %.200s", response.StatusCode, c.mask.Text(string(words)))
	if response.StatusCode/100 == 3 {
		err = fmt.Errorf("the chat server returned %d: redirects are not followed; set CHAT_URL to the target of the redirect", response.StatusCode)
	}
	if seconds, no := strconv.Atoi(response.Header.Get("Retry-After")); no == nil {
		return tessera.RetryAfter(time.Duration(seconds)*time.Second, err)
	}
	if (refused || response.StatusCode/100 == 4) && response.StatusCode != http.StatusTooManyRequests && hopeless.Match(words) {
		return tessera.Permanent(err)
	}
	return err
}
