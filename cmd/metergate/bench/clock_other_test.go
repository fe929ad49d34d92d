//go:build !linux

package bench

import (
	"errors"
	"time"
)

func pauseUntil(at time.Time) { time.Sleep(time.Until(at)) }

func processorTime(int) (time.Duration, error) {
	return 0, errors.New("the processor time of another process is known on Linux only")
}
