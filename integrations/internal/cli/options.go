package cli

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// secretMax is the maximum size of a file with a secret, in bytes.
const secretMax = 64 * 1024

// An Option can be set with a flag or an environment variable; the flag takes precedence.
type Option struct {
	// Flag is the name of the flag without dashes, Env the name of the environment variable.
	Flag, Env string
	// Value is the placeholder for the value in the help.
	Value string
	// Default is the value if neither is set.
	Default string
	// Usage is the description in the help.
	Usage string
	// Parse sets the value. The name of the option is put before its error.
	Parse func(value string) error
	// secret is the target for the content of the file, and inEnv the variable that may contain the secret instead.
	secret *string
	inEnv  string
}

// Text returns an option whose value is stored unchanged.
func Text(target *string, option Option) Option {
	option.Parse = func(value string) error {
		*target = value
		return nil
	}
	return option
}

// Secret returns an option for the path of a file that contains a secret. The environment variable inEnv may contain the
// secret itself; there is no flag for it, because all users of a machine can see the flags of its processes.
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
		return "", fmt.Errorf("%s is larger than %d bytes, so it is not a file with a secret", path, secretMax)
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

// parse sets the options from the arguments and the environment. The error is flag.ErrHelp if the help was requested.
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
		return fmt.Errorf("unexpected argument %q; flags begin with --", flags.Arg(0))
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
			return fmt.Errorf("%s and %s are both set; set only one of them", name, o.inEnv)
		}
		*o.secret = getenv(o.inEnv)
		return nil
	}
	if err := o.Parse(value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// help prints the help for all options.
func help(out io.Writer, name, about string, options []Option) {
	_, _ = fmt.Fprintf(out, "%s\n\nUsage: %s [flags]\n\nEach flag can also be set with the environment variable in parentheses; the flag takes precedence.\n\n",
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

// wrap splits a text at blanks into lines of at most width bytes.
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
