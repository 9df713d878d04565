package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	"tessera.dev/integrations/internal/webhook"
	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

func TestTheWebhookConnectorConforms(t *testing.T) {
	fill := func(delivery *tesserav1.Delivery, url string) {
		delivery.Payload = &tesserav1.Delivery_Webhook{Webhook: &tesserav1.WebhookRequest{Method: "POST", Url: url, Body: []byte("{}")}}
	}
	id := func(request *http.Request, _ []byte) string { return request.Header.Get("Webhook-Id") }
	connectortest.Run(t, connectortest.Connector{
		Kind: "webhook", Receiver: connectortest.NewHTTPReceiver(t, fill, id),
		Start: func(ctx context.Context, config tessera.Config) error {
			transport := open(webhook.Guard{netip.MustParsePrefix("127.0.0.0/8")})
			defer transport.Close()
			return tessera.Run(ctx, config, transport.Handler())
		},
	})
}

func TestNetworksAreParsedAsTesseraDoes(t *testing.T) {
	for list, want := range map[string]string{
		"": "[]", " , ": "[]", "127.0.0.0/8": "[127.0.0.0/8]", "10.1.2.3/16, fd00:1::/32,": "[10.1.0.0/16 fd00:1::/32]",
		"10.1.2.3":       `"10.1.2.3" is not a network; write it as in 127.0.0.0/8 or 10.1.2.3/32`,
		"10.0.0.0/8,all": `"all" is not a network; write it as in 127.0.0.0/8 or 10.1.2.3/32`,
	} {
		guard, err := networks(list)
		got := fmt.Sprint(guard)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s", list, got)
		}
	}
}
