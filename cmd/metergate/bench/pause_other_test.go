//go:build !linux

package bench

import "time"

func pauseUntil(at time.Time) { time.Sleep(time.Until(at)) }
