package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// The headers of Standard Webhooks.
const (
	// idHeader holds the delivery's id; the same at every attempt, so that a receiver can tell a repetition.
	idHeader = "Webhook-Id"
	// timestampHeader holds the moment of the attempt, in seconds since 1970.
	timestampHeader = "Webhook-Timestamp"
	// signatureHeader holds the signature.
	signatureHeader = "Webhook-Signature"
)

const (
	// keyPrefix is what a signing secret begins with.
	keyPrefix = "whsec_"
	// keyMin and keyMax are how many bytes a key may have.
	keyMin, keyMax = 24, 64
)

// parseKey reads whsec_ followed by base64 of keyMin to keyMax bytes. The error is a sentence that says what is expected,
// and holds nothing of the secret.
func parseKey(secret string) ([]byte, error) {
	const wanted = `a signing secret is "whsec_" followed by the base64 of 24 to 64 random bytes`
	encoded, found := strings.CutPrefix(secret, keyPrefix)
	if !found {
		return nil, errors.New(`it does not begin with "whsec_"; ` + wanted)
	}
	// The decoder would pass over line breaks.
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return nil, errors.New(`what follows "whsec_" is not base64; ` + wanted)
	}
	if len(key) < keyMin || len(key) > keyMax {
		return nil, fmt.Errorf("its key has %d bytes; %s", len(key), wanted)
	}
	return key, nil
}

// sign returns the value of webhook-signature. id must not hold a dot; a delivery's never does.
func sign(key []byte, id string, timestamp int64, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
