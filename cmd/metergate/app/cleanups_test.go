package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestCleanupsRunLastInFirstOutAndJoinErrors(t *testing.T) {
	var c cleanups
	var order []string
	broken := errors.New("broken")
	for _, name := range []string{"store", "admin listener", "public listener"} {
		c.add(name, func(ctx context.Context) error {
			order = append(order, name)
			if name == "store" {
				return ctx.Err()
			}
			if name == "public listener" {
				return broken
			}
			return nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := c.run(ctx)
	if want := []string{"public listener", "admin listener", "store"}; !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
	if !errors.Is(err, broken) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v lacks one of the two", err)
	}
	if want := "stopping the public listener: broken\nstopping the store: context canceled"; err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if err := c.run(t.Context()); err != nil || len(order) != 3 {
		t.Errorf("a second run: %v, %s", err, strings.Join(order, ", "))
	}
}
