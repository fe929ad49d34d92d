package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is text that does not show itself: whatever prints, logs or marshals it
// gets "[redacted]", or nothing when it is empty. string(s) is the text.
type Secret string

// String returns "[redacted]", or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// GoString returns what String does.
func (s Secret) GoString() string { return s.String() }

// Format prints what String returns. Without it a verb that is wrong for text,
// %d say, would print the secret in its complaint.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue returns what String does.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns what String does.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML returns what String does.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
