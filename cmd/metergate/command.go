package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"metergate/cmd/metergate/app"
	"metergate/config"
)

// Exit statuses.
const (
	exitDone    = 0
	exitFailed  = 1 // while running
	exitUsage   = 2 // wrong usage, or an invalid configuration
	exitDiffers = 3 // compare or move has found differences, or check has found faults
)

// A command is one word behind "metergate".
type command struct {
	name, args, does string
	run              func(*console) error
}

func commands() []command {
	return []command{
		{"serve", "[-config FILE]", "run the gateway (also without a command)", serve},
		{"demo", "[-listen ADDR] [-data DIR] | -upstream ADDR", "run a gateway with an API, users and tokens to try", demo},
		{"validate", "[-config FILE] [-online]", "check a configuration; -online also checks that store, key server and upstreams can be reached", validate},
		{"token", "-user U [-config FILE] [-plan P] [-org O] [-ttl 1h]", "sign a token for development", token},
		{"key", "-user U [-plan P] [-org O] [-id ID] [-expires DATE]", "make an API key, and print it and its line for the file of auth.api_keys", key},
		{"usage", "USER [-org O] [-at WINDOW] [-json]", "show what a user has used, now or in a past window", usage},
		{"org", "ORGANISATION [-at WINDOW] [-n 20] [-json]", "show what an organisation has used, and which of its members", org},
		{"reset", "USER [-org O] [-reason R]", "set a user's counts in the running windows to 0", reset},
		{"grant", "USER N [-org O] [-endpoint E -per P] [-reason R] [-key K]", "raise a limit of a user for the running window", grant},
		{"plan", "USER PLAN [-org O] [-until TIME] [-reason R]", "choose a user's plan, whatever the token says", plan},
		{"plan-clear", "USER [-org O] [-reason R]", "end a plan that was chosen with plan: the token's plan applies again", planClear},
		{"anchor", "USER DAY [-org O] [-reason R]", "choose the day on which a user's months begin, whatever the token says", anchor},
		{"anchor-clear", "USER [-org O] [-reason R]", "end what was chosen with anchor: the plan decides again", anchorClear},
		{"audit", "USER [-org O] [-json]", "show what administrators have changed about a user", audit},
		{"import", "FILE|-... [-per month] [-format dynamodb -map user=A,used=A,endpoint=A]", "set counts from files of another counter: CSV or DynamoDB; running it twice changes nothing", importCounts},
		{"compare", "FILE|-... [-at WINDOW] [-tolerance N] [-format dynamodb -map user=A,used=A]", "show where the numbers of another counter differ", compare},
		{"export", "-at WINDOW [-org O] [-per P] [-format csv|jsonl]", "list what all users have used in a window", export},
		{"bill", "-to RECEIVER [-url URL] [-since HOUR] [-dry-run]", "send the counts of the hours that are over to OpenMeter, Stripe, Lago or another service", bill},
		{"backup", "[-admin URL] [-force] FILE|-", "save a copy of the embedded store while the gateway runs", backup},
		{"check", "DIR|FILE", "look for faults in usage.db, journal.db or a backup, while no gateway has it open", check},
		{"compact", "DIR", "write usage.db again without the space that is free in it, while no gateway has it open", compact},
		{"move", "-from URL -to URL [-replace] [-verify-only]", "move all users from one store to another while no gateway runs, and compare them", move},
		{"accept-data", "", "go on with the counts that Redis has, after it has lost some", acceptData},
		{"plan-check", "[-config NEW] [-n 20]", "list whom the limits of another configuration would block now", planCheck},
		{"notify", "-test [-config FILE]", "send a test event to the receiver of notifications, and say what it answers", notifyReceiver},
		{"healthcheck", "[-config FILE | -admin URL] [-wait 10s]", "exit 0 if the gateway is ready", healthcheck},
		{"version", "", "print the version", printVersion},
	}
}

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
			return exitStatus(c.run(&console{c, args, stdout, stderr}), stderr)
		}
	}
	fmt.Fprintf(stderr, "metergate: there is no command %q; \"metergate help\" lists all\n", name)
	return exitUsage
}

func printUsage(w io.Writer) {
	fmt.Fprint(w, "metergate meters an API: it checks quotas, forwards requests and counts those that succeed.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %s\n        %s\n", c.synopsis(), c.does)
	}
	fmt.Fprint(w, "\n\"metergate COMMAND -h\" explains the flags of a command.\n")
}

// synopsis returns how the command is written.
func (c command) synopsis() string { return strings.TrimSpace("metergate " + c.name + " " + c.args) }

// errUsage is an error in how the program was called; its text is for the user.
type errUsage string

func (e errUsage) Error() string { return string(e) }

// errShown means that the user has already been told what is wrong with the call.
var errShown = errors.New("wrong usage")

// errDiffers means that the command has found what it is to find, and shown it.
var errDiffers = errors.New("numbers differ")

// exitStatus prints an error and returns the status to exit with.
func exitStatus(err error, stderr io.Writer) int {
	var usage errUsage
	var faults config.Errors
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.Is(err, errDiffers):
		return exitDiffers
	case errors.Is(err, errShown):
		return exitUsage
	case errors.As(err, &faults):
		fmt.Fprintln(stderr, faults) // each line starts with its file and line
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "metergate: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "metergate: %v\n", err)
	return exitFailed
}

// A console is how a command talks to the shell.
type console struct {
	command        command
	args           []string // behind its name
	stdout, stderr io.Writer
}

// usageError returns an error in how the command was called.
func (c *console) usageError(format string, args ...any) error {
	return errUsage(c.command.name + ": " + fmt.Sprintf(format, args...))
}

// flags returns an empty flag set for the command.
func (c *console) flags() *flag.FlagSet {
	f := flag.NewFlagSet("metergate "+c.command.name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // parseAny says what is wrong
	return f
}

// printHelp says what the command does, with its arguments and flags.
func (c *console) printHelp(f *flag.FlagSet) {
	fmt.Fprintf(c.stdout, "%s\n        %s\n", c.command.synopsis(), c.command.does)
	flags := 0
	f.VisitAll(func(*flag.Flag) { flags++ })
	if flags > 0 {
		fmt.Fprint(c.stdout, "\nFlags:\n")
		f.SetOutput(c.stdout)
		f.PrintDefaults()
	}
}

// parse parses flags and arguments, in any order, and returns the arguments. Behind "--"
// nothing is a flag. There must be one argument for each name.
func (c *console) parse(f *flag.FlagSet, names ...string) ([]string, error) {
	args, err := c.parseAny(f)
	if err != nil {
		return nil, err
	}
	return args, c.checkArguments(args, names...)
}

// parseAny is parse for a command whose flags decide how many arguments there must be.
func (c *console) parseAny(f *flag.FlagSet) ([]string, error) {
	args, err := c.splitFlags(f)
	if err != nil {
		return nil, err
	}
	// A shell variable that is not set must not turn a member into a user of the same id.
	f.Visit(func(given *flag.Flag) {
		if given.Name == "org" && given.Value.String() == "" {
			err = c.usageError("-org is empty; leave it out if no organisation is meant")
		}
	})
	return args, err
}

// splitFlags sets flags, and returns the other arguments.
func (c *console) splitFlags(f *flag.FlagSet) (args []string, err error) {
	for rest := c.args; ; {
		if err := f.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				c.printHelp(f)
				return nil, err
			}
			return nil, c.usageError("%v; \"metergate %s -h\" lists the flags", err, c.command.name)
		}
		if f.NArg() == 0 {
			return args, nil
		}
		if parsed := len(rest) - f.NArg(); parsed > 0 && rest[parsed-1] == "--" {
			return append(args, f.Args()...), nil
		}
		args, rest = append(args, f.Arg(0)), f.Args()[1:]
	}
}

// checkArguments reports an argument that is missing, or one too many, or an empty id, which comes
// from a shell variable that is not set.
func (c *console) checkArguments(args []string, names ...string) error {
	switch {
	case len(args) < len(names):
		return c.usageError("%s is needed", strings.Join(names[len(args):], " and "))
	case len(args) > len(names):
		return c.usageError("unexpected argument %q", args[len(names)])
	}
	for i, name := range names {
		if args[i] == "" && (name == "USER" || name == "ORGANISATION") {
			return c.usageError("%s is empty", name)
		}
	}
	return nil
}

// configFlag adds -config.
func configFlag(f *flag.FlagSet) *string {
	return f.String("config", "gateway.yaml", "configuration `FILE`")
}

// load loads a configuration from which a gateway can be built. All errors count as wrong
// usage, also that the file cannot be read.
func load(file string) (*config.Config, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, loadError(file, err)
	}
	if err := app.Check(cfg); err != nil {
		return nil, errUsage(fmt.Sprintf("%s: %v", file, err))
	}
	return cfg, nil
}

// loadOnly loads the keys of a configuration that a command reads. A fault elsewhere, such
// as a variable that is set only where the gateway runs, does not stop the command.
func loadOnly(file string, keys ...string) (*config.Config, error) {
	cfg, err := config.LoadOnly(file, keys...)
	if err != nil {
		return nil, loadError(file, err)
	}
	return cfg, nil
}

func loadError(file string, err error) error {
	var faults config.Errors
	switch {
	case errors.As(err, &faults):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return errUsage(fmt.Sprintf("there is no %s; use -config FILE", file))
	}
	return errUsage(err.Error())
}

// plural returns "1 user", "2 users".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
