package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
)

// threadsMax is how many threads are known; the oldest is forgotten, and its ticket's next message begins a new one.
const threadsMax = 10_000

// root is what names the message that a thread begins with: Slack says ts, Mattermost id.
type root struct {
	TS string `json:"ts,omitempty"`
	ID string `json:"id,omitempty"`
}

// threads is which thread is whose: by the number of a ticket and the channel.
type threads struct {
	mu    sync.Mutex
	file  string
	Order []string        `json:"order"` // the oldest first
	Roots map[string]root `json:"roots"`
}

// open reads what a file keeps; one that is not there is empty.
func open(file string) (*threads, error) {
	t := &threads{file: file, Roots: map[string]root{}}
	if file == "" {
		return t, nil
	}
	held, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(held, t)
	}
	if err != nil {
		return nil, fmt.Errorf("--threads: %w; mend %s, or remove it: then every ticket begins a new thread", err, file)
	}
	return t, nil
}

func (t *threads) of(place string) root {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.Roots[place]
}

// keep notes where a thread begins, unless that is known. The message was posted, so that a file which cannot be written makes no
// second one.
func (t *threads) keep(place string, begins root) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if begins == (root{}) || t.Roots[place] != (root{}) {
		return
	}
	t.Roots[place], t.Order = begins, append(t.Order, place)
	if len(t.Order) > threadsMax {
		delete(t.Roots, t.Order[0])
		t.Order = slices.Delete(t.Order, 0, 1)
	}
	if t.file == "" {
		return
	}
	held, err := json.Marshal(t)
	if err == nil {
		err = os.WriteFile(t.file+".new", held, 0o600)
	}
	if err == nil {
		err = os.Rename(t.file+".new", t.file)
	}
	if err != nil {
		slog.Error("cannot keep the threads", "error", err)
	}
}
