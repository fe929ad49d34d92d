package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"metergate/cmd/metergate/app"
	"metergate/config"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1 // while running
	exitUsage  = 2 // wrong usage, or an invalid configuration
)

// A console is what a command reads and writes besides files and the network.
type console struct {
	args           []string
	stdout, stderr io.Writer
}

// A command is one word behind "metergate".
type command struct {
	name, args, does string
	run              func(*console) error
}

func commands() []command {
	return []command{
		{"serve", "[-config FILE]", "run the gateway (also without a command)", serve},
		{"demo", "[-listen ADDR] [-data DIR] | -upstream ADDR", "run a gateway with an API, users and tokens to try", demo},
		{"validate", "[-config FILE] [-online]", "check a configuration, -online also that store, key server and upstreams can be reached", validate},
		{"token", "-config FILE -user U [-plan P] [-ttl 1h]", "sign a token for development", token},
		{"usage", "USER [-at WINDOW] [-json]", "show what a user has used, now or in a past window", usage},
		{"reset", "USER", "set what a user has used in the running windows to 0", reset},
		{"grant", "USER N [-endpoint E -per P] [-reason R] [-key K]", "raise a limit of a user for the running window", grant},
		{"plan", "USER PLAN [-until TIME] | USER -clear", "choose a user's plan, whatever the token says, or end that", plan},
		{"audit", "USER [-json]", "show what administrators have changed of a user", audit},
		{"import", "FILE|- [-per month]", "set counts from a CSV of user, endpoint, used; can be repeated", importCounts},
		{"export", "-at WINDOW [-per P] [-format csv|jsonl]", "list what all users have used in a window", export},
		{"plan-check", "-config NEW [-n 20]", "say whom the limits of another configuration would block now", planCheck},
		{"healthcheck", "[-admin URL]", "exit 0 when the gateway is ready", healthcheck},
		{"version", "", "print the version", printVersion},
	}
}

// errUsage is an error in how the program was called; its text is for the user.
type errUsage string

func (e errUsage) Error() string { return string(e) }

// errShown: everything has been said already.
var errShown = errors.New("")

// run runs a command and returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if len(args) > 0 && (args[0] == "-h" || args[0] == "-help" || args[0] == "--help") {
		name = "help"
	}
	if name == "help" {
		printUsage(stdout)
		return exitDone
	}
	for _, c := range commands() {
		if c.name == name {
			return status(c.run(&console{args, stdout, stderr}), stderr)
		}
	}
	fmt.Fprintf(stderr, "metergate: there is no command %q\n\n", name)
	printUsage(stderr)
	return exitUsage
}

// status shows an error and says what to exit with.
func status(err error, stderr io.Writer) int {
	var usage errUsage
	var faults config.Errors
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.Is(err, errShown):
		return exitUsage
	case errors.As(err, &faults):
		fmt.Fprintln(stderr, faults) // each line starts with its place
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "metergate: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "metergate: %v\n", err)
	return exitFailed
}

func printUsage(w io.Writer) {
	fmt.Fprint(w, "metergate meters an API: it checks quotas, forwards, and counts what succeeded.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  metergate %s\n        %s\n", strings.TrimSpace(c.name+" "+c.args), c.does)
	}
}

// flags returns the flag set of a command.
func (c *console) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet("metergate "+name, flag.ContinueOnError)
	f.SetOutput(c.stderr)
	return f
}

// parse parses a command's flags; it takes no other arguments.
func (c *console) parse(f *flag.FlagSet) error {
	if err := f.Parse(c.args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errShown // the flag package has said it
	}
	if f.NArg() > 0 {
		return errUsage(fmt.Sprintf("%s: unexpected argument %q", f.Name(), f.Arg(0)))
	}
	return nil
}

// configFlag adds -config.
func configFlag(f *flag.FlagSet) *string {
	return f.String("config", "gateway.yaml", "configuration `FILE`")
}

// load reads a configuration and sees to it that a gateway can be built from it. That
// it cannot be read is wrong usage too.
func load(file string) (*config.Config, error) {
	cfg, err := config.Load(file)
	var faults config.Errors
	switch {
	case errors.As(err, &faults):
		return nil, err
	case err != nil:
		return nil, errUsage(err.Error())
	}
	if err := app.Check(cfg); err != nil {
		return nil, errUsage(fmt.Sprintf("%s: %v", file, err))
	}
	return cfg, nil
}
