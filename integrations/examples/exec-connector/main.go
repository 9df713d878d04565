// Command exec-connector runs a command of this machine for each delivery, with the payload on its standard input. It runs
// what --allow names and nothing else.
//
//	TESSERA_TOKEN_FILE=token exec-connector --allow /usr/local/bin/page-somebody
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tessera.dev/integrations/pkg/tessera"
)

const (
	// again is the exit status that asks for another try: EX_TEMPFAIL of sysexits.h.
	again = 75
	// linger is how long the output of a command that has ended is waited for, when something that it started holds it.
	linger = 2 * time.Second
)

// connector is the handler with what it may do.
type connector struct {
	commands      map[string]string // the path by the base name
	withArguments bool
}

func main() {
	c := connector{commands: map[string]string{}}
	flag.Func("allow", "the full `PATH` of a command that may run; may be given again", c.allow)
	flag.BoolVar(&c.withArguments, "with-arguments", false, "let a payload give arguments")
	timeout := flag.Duration("timeout", time.Minute, "how long a command may run, at most 19m")
	listen := flag.String("listen", "", "`HOST:PORT` for /healthz and /metrics")
	flag.Parse()
	if len(c.commands) == 0 {
		log.Fatal("nothing may run: --allow /path/to/command names what may")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	token, err := os.Getenv("TESSERA_TOKEN"), error(nil)
	if file := os.Getenv("TESSERA_TOKEN_FILE"); file != "" {
		var held []byte
		held, err = os.ReadFile(file)
		token = string(held)
	}
	if err == nil {
		err = tessera.Run(ctx, tessera.Config{Address: os.Getenv("TESSERA_ADDRESS"), Token: token, Kind: "exec", Schema: c.schema(),
			Software: "exec-connector 1.0", Timeout: *timeout, Listen: *listen}, c.run)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// allow adds a command.
func (c *connector) allow(path string) error {
	name := filepath.Base(path)
	if !filepath.IsAbs(path) {
		return errors.New("it is no full path")
	}
	if c.commands[name] != "" {
		return fmt.Errorf("%s has the same name", c.commands[name])
	}
	c.commands[name] = path
	_, err := exec.LookPath(path)
	return err
}

// schema names the commands, so that a scrip that names another is refused when it is saved.
func (c *connector) schema() string {
	properties := map[string]any{"command": map[string]any{"enum": slices.Sorted(maps.Keys(c.commands))}, "arguments": false}
	if c.withArguments {
		properties["arguments"] = map[string]any{"type": "array", "maxItems": 100, "items": map[string]any{"type": "string"}}
	}
	made, _ := json.Marshal(map[string]any{"type": "object", "required": []string{"command"}, "properties": properties})
	return string(made)
}

// run runs the command of one delivery. Exit 0 means delivered, 75 asks for another try, and anything else gives up.
func (c *connector) run(ctx context.Context, delivery *tessera.Delivery) error {
	var payload struct {
		Command   string   `json:"command"`
		Arguments []string `json:"arguments"`
	}
	if err := delivery.Decode(&payload); err != nil {
		return err
	}
	path := c.commands[payload.Command]
	if path == "" || len(payload.Arguments) > 0 && !c.withArguments {
		return tessera.Permanent(fmt.Errorf("--allow and --with-arguments do not let %q run so", payload.Command))
	}
	var output head
	command := exec.CommandContext(ctx, path, payload.Arguments...)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(delivery.JSON), &output, &output
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "TESSERA_DELIVERY_ID=" + delivery.ID,
		fmt.Sprint("TESSERA_ATTEMPT=", delivery.Attempt), "TESSERA_TRANSACTION_ID=" + delivery.TransactionID,
		"TESSERA_TICKET_ID=" + delivery.Ticket.ID, fmt.Sprint("TESSERA_TICKET_NUMBER=", delivery.Ticket.Number),
		"TESSERA_TICKET_URL=" + delivery.Ticket.URL}
	// What the command starts ends with it when its time is over.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = linger
	err := command.Run()
	delivery.Report(tessera.Report{Response: output.String()})
	ended := command.ProcessState
	switch {
	case ended == nil:
		return err // It did not start.
	case ended.Success():
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ended.ExitCode() == again:
		return fmt.Errorf("%s asks for another try (exit status %d)", payload.Command, again)
	}
	return tessera.Permanent(fmt.Errorf("%s: %s", payload.Command, ended))
}

// head keeps the beginning of what is written to it.
type head struct{ strings.Builder }

func (h *head) Write(p []byte) (int, error) {
	_, _ = h.Builder.Write(p[:min(len(p), tessera.ResponseMax-h.Len())])
	return len(p), nil
}
