// Command exec-connector runs a local command for each delivery, with the payload on its standard input. It runs only the
// commands given with --allow.
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
	// again is the exit status that requests a retry: EX_TEMPFAIL from sysexits.h.
	again = 75
	// linger is how long to wait for the output to close after the command has ended, if processes that it started hold it open.
	linger = 2 * time.Second
)

// connector is the handler with its settings.
type connector struct {
	commands      map[string]string // paths by base name
	withArguments bool
}

func main() {
	c := connector{commands: map[string]string{}}
	flag.Func("allow", "the absolute `PATH` of a command that may run; can be repeated", c.allow)
	flag.BoolVar(&c.withArguments, "with-arguments", false, "allow payloads to contain arguments")
	timeout := flag.Duration("timeout", time.Minute, "the maximum run time of a command, at most 19m")
	listen := flag.String("listen", "", "serve /healthz, /readyz and /metrics at `HOST:PORT`")
	flag.Parse()
	if len(c.commands) == 0 {
		log.Fatal("no command is allowed to run; give at least one with --allow /path/to/command")
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
		return errors.New("the path is not absolute")
	}
	if c.commands[name] != "" {
		return fmt.Errorf("%s has the same base name", c.commands[name])
	}
	c.commands[name] = path
	_, err := exec.LookPath(path)
	return err
}

// schema lists the commands, so that a scrip with any other command is rejected when it is saved.
func (c *connector) schema() string {
	properties := map[string]any{"command": map[string]any{"enum": slices.Sorted(maps.Keys(c.commands))}, "arguments": false}
	if c.withArguments {
		properties["arguments"] = map[string]any{"type": "array", "maxItems": 100, "items": map[string]any{"type": "string"}}
	}
	made, _ := json.Marshal(map[string]any{"type": "object", "required": []string{"command"}, "properties": properties})
	return string(made)
}

// run runs the command of one delivery. Exit status 0 means delivered, 75 requests a retry, and any other gives up.
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
		return tessera.Permanent(fmt.Errorf("the command %q or its arguments are not allowed by --allow and --with-arguments", payload.Command))
	}
	var output head
	command := exec.CommandContext(ctx, path, payload.Arguments...)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(delivery.JSON), &output, &output
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "TESSERA_DELIVERY_ID=" + delivery.ID,
		fmt.Sprint("TESSERA_ATTEMPT=", delivery.Attempt), "TESSERA_TRANSACTION_ID=" + delivery.TransactionID,
		"TESSERA_TICKET_ID=" + delivery.Ticket.ID, fmt.Sprint("TESSERA_TICKET_NUMBER=", delivery.Ticket.Number),
		"TESSERA_TICKET_URL=" + delivery.Ticket.URL}
	// At a timeout, the processes that the command started are killed with it.
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
		return fmt.Errorf("%s requested a retry (exit status %d)", payload.Command, again)
	}
	return tessera.Permanent(fmt.Errorf("%s: %s", payload.Command, ended))
}

// head keeps the beginning of the data that is written to it.
type head struct{ strings.Builder }

func (h *head) Write(p []byte) (int, error) {
	_, _ = h.Builder.Write(p[:min(len(p), tessera.ResponseMax-h.Len())])
	return len(p), nil
}
