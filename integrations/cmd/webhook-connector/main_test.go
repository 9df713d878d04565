package main

import (
	"fmt"
	"testing"
)

func TestNetworksAreReadAsTesseraReadsThem(t *testing.T) {
	for list, want := range map[string]string{
		"": "[]", " , ": "[]", "127.0.0.0/8": "[127.0.0.0/8]", "10.1.2.3/16, fd00:1::/32,": "[10.1.0.0/16 fd00:1::/32]",
		"10.1.2.3":       `"10.1.2.3" is no network, as in 127.0.0.0/8 or 10.1.2.3/32`,
		"10.0.0.0/8,all": `"all" is no network, as in 127.0.0.0/8 or 10.1.2.3/32`,
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
