//go:build !linux

package main

import "time"

func pauseUntil(at time.Time) { time.Sleep(time.Until(at)) }
