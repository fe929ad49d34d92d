package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that hides itself: printing, logging or marshalling it gives
// "[redacted]", or nothing if it is empty. string(s) is the text.
type Secret string

// String returns "[redacted]", or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// GoString returns the same as String.
func (s Secret) GoString() string { return s.String() }

// Format prints what String returns. Without it, a verb that does not fit a text, such as
// %d, would print the secret in its error text.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue returns the same as String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns the same as String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML returns the same as String.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
