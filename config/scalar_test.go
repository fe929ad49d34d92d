package config

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"250ms": 250 * time.Millisecond, "1.5s": 1500 * time.Millisecond, "1h30m": 90 * time.Minute, "0s": 0,
		"1d": day, "0d": 0, "400d": 400 * day, "1d12h": 36 * time.Hour, "2d1h30m0.5s": 2*day + 90*time.Minute + 500*time.Millisecond,
		"106751d": 106751 * day, "-5s": -5 * time.Second,
	} {
		if got, err := parseDuration(text); got != want || err != nil {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "0", "30", "1.5", "-3", "1e3", "d", "1dd", "1.5d", "-1d", "+1d", "1d-12h", "1d 12h", "12h1d", "1w", "1 s", "1D", "s",
		"106752d", "106751d24h", "99999999999999999999d", "1d12", "9999999999h", "inf",
	} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "65536": 65536, "7B": 7, "3KB": 3000, "2MB": 2_000_000, "1GB": 1_000_000_000,
		"3KiB": 3072, "32MiB": 33554432, "1GiB": 1073741824, "32 MiB": 33554432,
		"9223372036854775807": 1<<63 - 1, "8589934591GiB": 8589934591 << 30,
	} {
		if got, err := parseSize(text); got != want || err != nil {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "B", "KiB", "-1", "-1KB", "1.5MiB", "1mb", "1K", "1M", "1TB", "1KiKiB", "1 0", "9223372036854775808", "8589934592GiB",
		"0x10", "1_000", "010", "00", "+1", "010KiB",
	} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
}
