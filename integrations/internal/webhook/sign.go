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
	// idHeader contains the delivery's id, which is the same at every attempt; receivers use it to detect duplicates.
	idHeader = "Webhook-Id"
	// timestampHeader contains the time of the attempt, in seconds since 1970.
	timestampHeader = "Webhook-Timestamp"
	// signatureHeader contains the signature of id, timestamp and body.
	signatureHeader = "Webhook-Signature"
)

const (
	// keyPrefix is the prefix of every signing secret.
	keyPrefix = "whsec_"
	// keyMin and keyMax are the minimum and maximum length of a key, in bytes.
	keyMin, keyMax = 24, 64
)

// parseKey parses a signing secret: whsec_ followed by the base64 of keyMin to keyMax bytes. The error explains the format
// and does not contain the secret.
func parseKey(secret string) ([]byte, error) {
	const wanted = `a signing secret is "whsec_" followed by the base64 of 24 to 64 random bytes`
	encoded, found := strings.CutPrefix(secret, keyPrefix)
	if !found {
		return nil, errors.New(`it does not begin with "whsec_"; ` + wanted)
	}
	// The decoder ignores line breaks.
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return nil, errors.New(`what follows "whsec_" is not base64; ` + wanted)
	}
	if len(key) < keyMin || len(key) > keyMax {
		return nil, fmt.Errorf("its key has %d bytes; %s", len(key), wanted)
	}
	return key, nil
}

// sign returns the value of webhook-signature. The id must not contain a dot; the id of a delivery never does.
func sign(key []byte, id string, timestamp int64, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
