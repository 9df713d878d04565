// Command webhook-connector delivers webhooks for Tessera, with the same results as Tessera's own workers. Use it if the
// requests must be sent from another machine.
//
//	webhook-connector --address 127.0.0.1:8081 --token-file token
package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"tessera.dev/integrations/internal/attempt"
	"tessera.dev/integrations/internal/cli"
	"tessera.dev/integrations/internal/webhook"
	"tessera.dev/integrations/pkg/tessera"
)

// margin is added to the deadline of an attempt to get the timeout after which it counts as hanging.
const margin = 5 * time.Second

func main() {
	cli.Main(connector())
}

func connector() cli.Connector {
	var allow webhook.Guard
	return cli.Connector{
		Name: "webhook-connector", Kind: "webhook",
		About:       "Delivers webhooks for Tessera.",
		Concurrency: 64,
		PerEndpoint: 8,
		Timeout:     webhook.Deadline + margin,
		Options: []cli.Option{{Flag: "allow", Env: "TESSERA_WEBHOOK_ALLOW", Value: "NETWORK,...",
			Usage: "Networks that webhooks may reach although they are not part of the public Internet, such as 10.1.0.0/16 or " +
				"fd00:1::/32. Tessera has the same setting (webhook.allow), which applies when a scrip is saved.",
			Parse: func(value string) (err error) {
				allow, err = networks(value)
				return err
			}}},
		Open: func() (cli.Transport, error) { return open(allow), nil },
	}
}

// open returns a transport to the addresses that a guard allows.
func open(allow webhook.Guard) cli.Transport {
	transport := webhook.New(allow, "tessera/"+cli.Version)
	send := func(ctx context.Context, delivery *tessera.Delivery) attempt.Attempt {
		if delivery.Webhook == nil {
			return attempt.New(attempt.Permanent, "this delivery is not a webhook")
		}
		return transport.Send(ctx, delivery.ID, delivery.Webhook)
	}
	return cli.Transport{Send: send, Close: transport.Close, Through: "the " + reach(allow)}
}

// reach describes the addresses that a guard allows.
func reach(allow webhook.Guard) string {
	if len(allow) == 0 {
		return "public Internet"
	}
	return fmt.Sprint("public Internet and ", allow)
}

// networks parses a comma-separated list of networks.
func networks(list string) (webhook.Guard, error) {
	var guard webhook.Guard
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		network, err := netip.ParsePrefix(item)
		if err != nil {
			return nil, fmt.Errorf("\"%s\" is not a network; write it as in 127.0.0.0/8 or 10.1.2.3/32", item)
		}
		guard = append(guard, network.Masked())
	}
	return guard, nil
}
