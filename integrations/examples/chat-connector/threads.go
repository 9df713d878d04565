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

// threadsMax is the maximum number of stored threads; when it is exceeded, the oldest is removed, and its ticket's next message starts a
// new thread.
const threadsMax = 10_000

// root identifies the first message of a thread: Slack calls it ts, Mattermost id.
type root struct {
	TS string `json:"ts,omitempty"`
	ID string `json:"id,omitempty"`
}

// threads stores the thread of each ticket and channel.
type threads struct {
	mu    sync.Mutex
	file  string
	Order []string        `json:"order"` // oldest first
	Roots map[string]root `json:"roots"`
}

// open reads the stored threads from a file. A missing file is not an error.
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
		return nil, fmt.Errorf("--threads: %w; fix %s or delete it, after which every ticket starts a new thread", err, file)
	}
	return t, nil
}

func (t *threads) of(place string) root {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.Roots[place]
}

// keep stores the first message of a thread, unless one is stored already. A file that cannot be written is only logged: the message was
// posted, and an error would post it again.
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
		slog.Error("cannot write the file of --threads", "error", err)
	}
}
