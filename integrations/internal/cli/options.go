package cli

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// secretMax is how large the file of a secret may be, in bytes.
const secretMax = 64 * 1024

// An Option is one thing that can be set, by a flag or by a variable of the environment; the flag wins.
type Option struct {
	// Flag is its name without dashes, Env that of the variable.
	Flag, Env string
	// Value names what is expected, for the help.
	Value string
	// Default is what holds when nothing is set.
	Default string
	// Usage is a sentence or two for the help.
	Usage string
	// Parse takes the value. Its error is the end of a sentence that begins with the name of the option.
	Parse func(value string) error
	// secret is where the content of the file goes, and inEnv the variable that may hold it instead.
	secret *string
	inEnv  string
}

// Text is an option that is taken as it is.
func Text(target *string, option Option) Option {
	option.Parse = func(value string) error {
		*target = value
		return nil
	}
	return option
}

// Secret is an option that names a file with a secret in it. The secret itself may stand in the environment variable inEnv;
// it has no flag, since everybody on a machine sees the flags of its programs.
func Secret(target *string, inEnv string, option Option) Option {
	option.secret, option.inEnv, option.Value = target, inEnv, "FILE"
	option.Parse = func(path string) error {
		if path == "" {
			return nil
		}
		secret, err := readSecret(path)
		*target = secret
		return err
	}
	return option
}

func readSecret(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, secretMax+1))
	switch {
	case err != nil:
		return "", err
	case len(content) > secretMax:
		return "", fmt.Errorf("%s is larger than %d bytes and can hold no secret", path, secretMax)
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

// parse reads the arguments and the environment into the options. The error is flag.ErrHelp when the help was asked for.
func parse(options []Option, args []string, getenv func(string) string) error {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	given := map[string]string{}
	for _, option := range options {
		flags.Func(option.Flag, option.Usage, func(value string) error {
			given[option.Flag] = value
			return nil
		})
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag; all that is set begins with --", flags.Arg(0))
	}
	for _, option := range options {
		if err := option.take(given, getenv); err != nil {
			return err
		}
	}
	return nil
}

func (o Option) take(given map[string]string, getenv func(string) string) error {
	name := "--" + o.Flag
	value, isGiven := given[o.Flag]
	if !isGiven {
		if value = getenv(o.Env); value != "" {
			name = o.Env
		} else {
			value = o.Default
		}
	}
	if o.inEnv != "" && getenv(o.inEnv) != "" {
		if value != "" {
			return fmt.Errorf("%s and %s are both set; one of them is enough", name, o.inEnv)
		}
		*o.secret = getenv(o.inEnv)
		return nil
	}
	if err := o.Parse(value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// help explains every option.
func help(out io.Writer, name, about string, options []Option) {
	_, _ = fmt.Fprintf(out, "%s\n\nUsage: %s [flags]\n\nEach flag has a variable in the environment, which holds where the flag is not given.\n\n",
		about, name)
	for _, option := range options {
		env := option.Env
		if option.inEnv != "" {
			env += ", or the value itself in " + option.inEnv
		}
		_, _ = fmt.Fprintf(out, "  --%s %s  (%s)\n", option.Flag, option.Value, env)
		for _, line := range wrap(option.Usage, 92) {
			_, _ = fmt.Fprintf(out, "        %s\n", line)
		}
		if option.Default != "" {
			_, _ = fmt.Fprintf(out, "        Default: %s\n", option.Default)
		}
	}
}

// wrap breaks a text between words into lines of at most width bytes.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimLeft(line+" "+word, " ")
	}
	return append(lines, line)
}
