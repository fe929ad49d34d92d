package jsonlog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// bySlog is the line that slog writes.
func bySlog(at time.Time, level slog.Level, message string, attrs []slog.Attr) string {
	var b bytes.Buffer
	r := slog.NewRecord(at, level, message, 0)
	r.AddAttrs(attrs...)
	slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: level}).Handle(context.Background(), r)
	return b.String()
}

func TestAppendLineIsSlogs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Half of the texts are those that a line may have as they are.
		texts := rapid.OneOf(rapid.StringMatching(`[ -~]*`), rapid.StringMatching(`[a-z0-9:/._-]*`), rapid.String(),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		text := func(name string) string { return texts.Draw(t, name) }
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
		if rapid.Bool().Draw(t, "UTC") {
			at = at.UTC()
		}
		level, message := slog.Level(rapid.IntRange(-9, 9).Draw(t, "level")), text("message")
		var attrs []slog.Attr
		for range rapid.IntRange(0, 8).Draw(t, "attributes") {
			key := text("key")
			attrs = append(attrs, rapid.OneOf(
				rapid.Map(texts, func(s string) slog.Attr { return slog.String(key, s) }),
				rapid.Map(rapid.Int64(), func(n int64) slog.Attr { return slog.Int64(key, n) }),
				rapid.Map(rapid.Float64(), func(f float64) slog.Attr { return slog.Float64(key, f) }),
				rapid.Map(rapid.IntRange(0, 1e9), func(us int) slog.Attr { return slog.Float64(key, float64(us)/1000) }),
				rapid.Map(rapid.Bool(), func(b bool) slog.Attr { return slog.Bool(key, b) }),
				rapid.Just(slog.Any(key, errors.New("a fault"))),
				rapid.Just(slog.Group(key, slog.Int("n", 1))),
			).Draw(t, "attribute"))
		}
		got, ok := appendLine(nil, at, level, message, attrs)
		if want := bySlog(at, level, message, attrs); ok && string(got) != want {
			t.Errorf("the line is %q, slog's is %q", got, want)
		}
		if ok {
			return
		}
		for _, a := range attrs {
			if k := a.Value.Kind(); k == slog.KindAny || k == slog.KindGroup || !isPlain(a.Key) || k == slog.KindString && !isPlain(a.Value.String()) ||
				k == slog.KindFloat64 && !isWrittenInFull(a.Value.Float64()) {
				return
			}
		}
		if isPlain(message) {
			t.Errorf("a plain line is left to slog: %q %v", message, attrs)
		}
	})
}

func TestLog(t *testing.T) {
	var b bytes.Buffer
	level := new(slog.LevelVar)
	log := slog.New(New(&b, level))
	attrs := []slog.Attr{slog.String("user", "u-1"), slog.Float64("duration_ms", 1.5)}
	Log(log, slog.LevelInfo, "request", attrs)
	Log(log, slog.LevelDebug, "below the level", attrs)
	Log(log, slog.LevelWarn, "request", []slog.Attr{slog.String("user", "ü\n")})
	Log(log.With("gateway", 1), slog.LevelInfo, "request", attrs)
	log.Info("by slog", "n", 1)
	other := slog.New(slog.NewTextHandler(&b, nil))
	Log(other, slog.LevelInfo, "request", attrs)
	Flush(other)
	level.Set(slog.LevelError)
	Log(log, slog.LevelWarn, "below the new level", attrs)
	Flush(log)
	want := []string{
		`"level":"INFO","msg":"request","user":"u-1","duration_ms":1.5}`,
		`"level":"WARN","msg":"request","user":"ü\n"}`,
		`"level":"INFO","msg":"request","gateway":1,"user":"u-1","duration_ms":1.5}`,
		`"level":"INFO","msg":"by slog","n":1}`,
		`level=INFO msg=request user=u-1 duration_ms=1.5`,
	}
	got := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(got) != len(want) {
		t.Fatalf("there are %d lines, want %d:\n%s", len(got), len(want), b.String())
	}
	for i := range want {
		if !strings.HasSuffix(got[i], want[i]) {
			t.Errorf("line %d is %s, want it to end with %s", i+1, got[i], want[i])
		}
	}
}

func BenchmarkLog(b *testing.B) {
	attrs := []slog.Attr{slog.String("request_id", "0123456789abcdef"), slog.String("client", "127.0.0.1"), slog.String("path", "/api/analyze"),
		slog.Int64("status", 200), slog.Float64("auth_ms", 0.012), slog.Float64("upstream_ms", 1.234), slog.Float64("duration_ms", 3.21)}
	for name, h := range map[string]slog.Handler{"slog": slog.NewJSONHandler(io.Discard, nil), "here": New(io.Discard, slog.LevelInfo)} {
		b.Run(name, func(b *testing.B) {
			log := slog.New(h)
			b.ReportAllocs()
			for b.Loop() {
				Log(log, slog.LevelInfo, "request", attrs)
			}
		})
	}
}
