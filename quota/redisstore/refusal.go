package redisstore

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"metergate/quota"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/script"
)

// A RefusalError is a reply by which Redis refuses a call, with what to change.
type RefusalError struct {
	Advice string
	Err    error // the reply
}

func (e *RefusalError) Error() string { return fmt.Sprintf("%s (%v)", e.Advice, e.Err) }

// Unwrap returns the reply.
func (e *RefusalError) Unwrap() error { return e.Err }

// explain returns err with what to do about it, if it is a reply that says what is wrong: a
// *RefusalError, or one about the user's data (quota.ErrUserData).
func (s *Store) explain(err error) error {
	if wrong := (*redisclient.WrongKindError)(nil); err == nil || !redisclient.IsReply(err) || errors.As(err, &wrong) {
		return err
	}
	text := err.Error()
	if strings.Contains(text, "WRONGTYPE ") || strings.Contains(text, script.UnknownFormat) {
		return fmt.Errorf("%w: %w", quota.ErrUserData, err)
	}
	if advice := s.advice(text); advice != "" {
		return &RefusalError{advice, err}
	}
	return err
}

// adviceOr returns what to do about a reply, and otherwise if nothing is known.
func (s *Store) adviceOr(reply error, otherwise string) string {
	if advice := s.advice(reply.Error()); advice != "" {
		return advice
	}
	return otherwise
}

const adviceReplica = "the Redis in store.url is a replica, which counts nothing; give the address of the master, or redis+sentinel://HOST:PORT,HOST:PORT/NAME to follow it"

// advices has what to do about replies that contain a text. Before Redis 7 the error of a command
// inside of a script is somewhere in the reply.
var advices = []struct{ text, advice string }{
	{"READONLY ", adviceReplica},
	{"MASTERDOWN ", adviceReplica},
	{"OOM ", "Redis has reached its maxmemory and takes no more counts; raise maxmemory, or delete what does not belong there"},
	{"MISCONF ", "Redis cannot write to its disk, and takes no counts until it can; make room on the disk, and see the log of Redis"},
	{"NOREPLICAS ", "Redis takes no counts because fewer replicas follow it than min-replicas-to-write says; bring the replicas back, or lower min-replicas-to-write"},
	{"LOADING ", "Redis is still loading its data; wait until it has"},
	{"BUSY ", "a script of another program keeps Redis busy; end it with SCRIPT KILL"},
	{"CLUSTERDOWN ", "the Cluster does not serve all of its slots; bring the missing masters back (redis-cli cluster info)"},
	{"NOAUTH ", "Redis wants a password; write it in store.url: redis://USER:PASSWORD@HOST:PORT"},
	{"WRONGPASS ", "Redis does not accept the user and the password in store.url; correct them"},
	{"invalid password", "Redis does not accept the password in store.url; correct it"},
	{"DENIED ", "Redis runs in protected mode, and serves only its own machine; set a password (requirepass), or turn protected-mode off"},
	{"max number of clients", "Redis has as many connections as it accepts; raise maxclients, or end other clients"},
	{"not allowed after non deterministic commands", "this Redis is too old for the store's scripts; use Redis 5.0 or later"},
}

// advice says what to do about a reply; empty: nothing is known.
func (s *Store) advice(text string) string {
	for _, a := range advices {
		if strings.Contains(text, a.text) {
			return a.advice
		}
	}
	lower := strings.ToLower(text)
	switch {
	case !strings.Contains(text, "NOPERM") && !strings.Contains(lower, "acl failure") && !strings.Contains(lower, "can't run this command") && !strings.Contains(lower, "can't access at least one of the keys"):
		// Redis, and Valkey, of a command in a script.
		if strings.Contains(lower, "unknown redis command") || strings.Contains(lower, "unknown command called from script") {
			return adviceUnknown(commandsIn(text)...)
		}
		if m := unknownCommand.FindStringSubmatch(lower); m != nil {
			return adviceUnknown(strings.ToUpper(m[1]))
		}
		return ""
	case strings.Contains(lower, "channel"):
		return fmt.Sprintf("the Redis user %s may not use the channels %s:*; permit them: ACL SETUSER %[1]s &%[2]s:*", s.redisUser, s.prefix)
	case strings.Contains(lower, " keys mentioned") || strings.Contains(lower, " keys used") || strings.Contains(lower, "access a key"):
		return fmt.Sprintf("the Redis user %s may not use the keys %s:*; permit them: ACL SETUSER %[1]s ~%[2]s:*", s.redisUser, s.prefix)
	}
	if m := forbiddenCommand.FindStringSubmatch(lower); m != nil {
		return fmt.Sprintf("the Redis user %s may not use %s; %s", s.redisUser, strings.ToUpper(m[1]), s.permit(m[1]))
	}
	commands := commandsIn(text)
	return fmt.Sprintf("the Redis user %s may not use %s; %s", s.redisUser, named(commands), s.permit(commands...))
}

var (
	unknownCommand   = regexp.MustCompile("unknown command ['`]?([a-z|]+)")
	forbiddenCommand = regexp.MustCompile(`permissions? to run the '([a-z|]+)' command`)
	scriptLine       = regexp.MustCompile(`([0-9a-f]{40})\D.*@user_script: ?(\d+)`)
	functionLine     = regexp.MustCompile(`@user_function: ?(\d+)`)
)

// commandsIn returns the commands of the line of a script, or of the library, that a reply names; nil: it names none.
func commandsIn(reply string) []string {
	if m := functionLine.FindStringSubmatch(reply); m != nil {
		line, _ := strconv.Atoi(m[1])
		return script.LibraryCommandsAt(line)
	}
	m := scriptLine.FindStringSubmatch(reply)
	if m == nil {
		return nil
	}
	line, _ := strconv.Atoi(m[2])
	return script.CommandsAt(m[1], line)
}

// named returns names of commands for a sentence.
func named(commands []string) string {
	if len(commands) == 0 {
		return "a command that the gateway needs"
	}
	return strings.Join(commands, " and ")
}

// adviceUnknown says what to do where commands do not exist.
func adviceUnknown(commands ...string) string {
	return fmt.Sprintf("Redis does not know %s; if its redis.conf has rename-command for it, remove that; if there is a proxy in between, connect without it", named(commands))
}

// permit says how to permit commands to the Redis user.
func (s *Store) permit(commands ...string) string {
	rule := ""
	for _, command := range commands {
		rule += " +" + strings.ToLower(command)
	}
	if rule == "" {
		return "permit what docs/operate.md lists"
	}
	return fmt.Sprintf("permit it: ACL SETUSER %s%s; docs/operate.md has the whole rule", s.redisUser, rule)
}
