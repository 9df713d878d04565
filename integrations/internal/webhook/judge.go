package webhook

import (
	"fmt"
	"net/http"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// reasons are the words of statuses for which package net/http has others than Tessera.
var reasons = map[int]string{
	http.StatusNonAuthoritativeInfo:         "Non Authoritative Information",
	http.StatusRequestEntityTooLarge:        "Payload Too Large",
	http.StatusRequestURITooLong:            "URI Too Long",
	http.StatusRequestedRangeNotSatisfiable: "Range Not Satisfiable",
}

// judge tells what a status means. Standard Webhooks: only 2xx is success, 410 asks to stop, all else is tried again by
// schedule.
func judge(status int) (tesserav1.Outcome, string) {
	words := words(status)
	switch {
	case status >= 200 && status < 300:
		return attempt.Delivered, words
	case status == http.StatusGone:
		return attempt.Permanent, words + ": the receiver does not want this webhook any more"
	case status >= 300 && status < 400:
		return attempt.Retry, words + ": redirects are not followed; put the address it leads to into the scrip"
	}
	return attempt.Retry, words
}

// words returns a status with its meaning, whatever the receiver wrote beside it.
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

// health tells what a status says of the endpoint: an answer about one URL or one request is that of an endpoint that works.
func health(status int) tesserav1.Health {
	isOverloaded := status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
	if isOverloaded || status >= 500 && status < 600 {
		return attempt.Fails
	}
	return attempt.Works
}
