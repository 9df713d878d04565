package tessera_test

import (
	"context"
	"errors"
	"testing"

	"tessera.dev/integrations/pkg/tessera"
	"tessera.dev/integrations/pkg/tessera/connectortest"
	"tessera.dev/integrations/pkg/tessera/tesserav1"
)

// notebook is a receiver that is called directly, for the smallest possible connector.
type notebook struct{ connectortest.Gate }

func (n *notebook) Fill(delivery *tesserav1.Delivery) {
	delivery.Payload = &tesserav1.Delivery_Json{Json: `{"text": "hello"}`}
}

func (n *notebook) write(ctx context.Context, delivery *tessera.Delivery) error {
	var note struct{ Text string }
	if err := delivery.Decode(&note); err != nil {
		return err
	}
	switch n.Arrive(ctx, delivery.ID) {
	case connectortest.Accepts:
		return nil
	case connectortest.Refuses:
		return errors.New("the notebook is full")
	}
	return context.Cause(ctx)
}

func TestTheSmallestConnectorConforms(t *testing.T) {
	receiver := &notebook{}
	connectortest.Run(t, connectortest.Connector{
		Kind: "note", Receiver: receiver,
		Start: func(ctx context.Context, config tessera.Config) error {
			return tessera.Run(ctx, config, receiver.write)
		},
	})
}
