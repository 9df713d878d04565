package webhook

import (
	"fmt"
	"net/http"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// reasons are the reason phrases of statuses for which package net/http differs from Tessera.
var reasons = map[int]string{
	http.StatusNonAuthoritativeInfo:         "Non Authoritative Information",
	http.StatusRequestEntityTooLarge:        "Payload Too Large",
	http.StatusRequestURITooLong:            "URI Too Long",
	http.StatusRequestedRangeNotSatisfiable: "Range Not Satisfiable",
}

// judge returns the outcome and the detail for a status. Standard Webhooks: only 2xx is a success, 410 requests to stop, and
// every other status is retried.
func judge(status int) (tesserav1.Outcome, string) {
	words := words(status)
	switch {
	case status >= 200 && status < 300:
		return attempt.Delivered, words
	case status == http.StatusGone:
		return attempt.Permanent, words + ": the receiver no longer accepts this webhook"
	case status >= 300 && status < 400:
		return attempt.Retry, words + ": redirects are not followed; use the target of the redirect as the URL in the scrip"
	}
	return attempt.Retry, words
}

// words returns a status with its standard reason phrase; the receiver's own phrase is ignored.
func words(status int) string {
	reason, found := reasons[status]
	if !found {
		reason = http.StatusText(status)
	}
	if reason == "" {
		reason = "<unknown status code>"
	}
	return fmt.Sprintf("%d %s", status, reason)
}

// health returns the health of the endpoint for a status. An endpoint that rejects one URL or one request works.
func health(status int) tesserav1.Health {
	isOverloaded := status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
	if isOverloaded || status >= 500 && status < 600 {
		return attempt.Fails
	}
	return attempt.Works
}
