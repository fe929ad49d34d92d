// Package reported reads the amount that an upstream reports in the body of its response, such as
// the tokens that a language model has used, while the body passes by.
//
//	path, err := reported.ParsePath("usage.total_tokens")
//	...
//	r, err := reported.NewReader(path, "text/event-stream", "", maxBody)
//	...
//	r.Write(chunk) // for each chunk of the body, cut anywhere
//	...
//	amount, err := r.End()
//
// A body is read by its Content-Type:
//
//   - application/json, text/json and types that end in +json: JSON texts that stand one after the
//     other, usually one. If one of them is not valid JSON, or not complete, no amount is known.
//   - application/x-ndjson, jsonl and the like: JSON texts, one on a line. application/json-seq
//     (RFC 7464): JSON texts, each after a record separator. Texts that are not valid do not count.
//   - text/event-stream: the data of each event is a JSON text. Events whose data are not, such as
//     [DONE], do not count. The last event counts also without the empty line that should end it,
//     if its JSON is complete.
//
// The last JSON text that has anything but null at the path decides. There it must have a whole
// number, 0 or more, in any way to write one: 1200, 1200.0 and 1.2e3 are the same. An array at the
// top of a text is read as if its elements were texts of their own: this is how Gemini streams.
//
// A Reader takes less than 1 KiB, whatever the body: it keeps no string, no number and no event.
// The tokenizers of encoding/json, encoding/json/jsontext and the libraries for server-sent events
// do not serve here, because they hold whole tokens, a string of any length, and ask for their input,
// which takes a goroutine and a buffer for each stream.
//
// Compressed bodies (gzip and deflate) take about 55 KiB each while they are read. The gateway asks
// upstreams for uncompressed ones.
package reported

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

var (
	errAbsent     = errors.New("the body does not have the value")
	errMalformed  = errors.New("the value is not a whole number, 0 or more")
	errUnreadable = errors.New("the body is not valid JSON, or not complete")
)

// A Reader finds the amount that a body reports. It is not safe for concurrent use.
type Reader struct {
	texts   texts
	latest  finding // in a line, an event or the body, of those that have ended
	err     error   // why no amount is known, whatever follows
	ended   bool
	bom     int      // how many bytes of a byte order mark have been left out; noBOM: none can follow
	split   byte     // what stands between JSON texts; 0: nothing
	events  *events  // not nil: the body is a stream of events
	decoder *decoder // not nil: the body is compressed
}

const (
	byteOrderMark = "\ufeff"
	noBOM         = len(byteOrderMark)
)

// NewReader reads a body with these values of Content-Type and Content-Encoding; limit is how many
// bytes are read of a compressed one, when it is decompressed. Errors: bodies of this type or
// encoding cannot be read.
//
// End must be called.
func NewReader(path Path, contentType, contentEncoding string, limit int64) (*Reader, error) {
	r := &Reader{texts: texts{names: strings.Split(path.text, ".")}}
	mediaType, _, _ := strings.Cut(contentType, ";")
	switch mediaType = strings.ToLower(strings.TrimSpace(mediaType)); {
	case mediaType == "application/json", mediaType == "text/json", strings.HasSuffix(mediaType, "+json"):
		// One text, or several that nothing separates.
	case mediaType == "text/event-stream":
		r.events = &events{}
	case mediaType == "application/json-seq", strings.HasSuffix(mediaType, "+json-seq"):
		r.split = '\x1e'
	case isLines(mediaType):
		r.split = '\n'
	default:
		return nil, fmt.Errorf("the body is neither JSON nor a stream of events: its Content-Type is %.100q", contentType)
	}
	if contentEncoding != "" && !strings.EqualFold(contentEncoding, "identity") {
		if r.decoder = newDecoder(contentEncoding, limit, r.read); r.decoder == nil {
			return nil, fmt.Errorf("the body has the Content-Encoding %.100q; only gzip and deflate can be read", contentEncoding)
		}
	}
	return r, nil
}

func isLines(mediaType string) bool {
	switch mediaType {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl",
		"application/jsonlines", "application/x-jsonlines":
		return true
	}
	return false
}

// Write looks at the next piece of the body. It does not keep p, and returns len(p) and no error.
func (r *Reader) Write(p []byte) (int, error) {
	switch {
	case r.err != nil || r.ended:
	case r.decoder != nil:
		r.err = r.decoder.write(p)
	default:
		r.read(p)
	}
	return len(p), nil
}

// End ends the body, and returns the amount that it has reported. math.MaxInt64 stands for itself and
// for every larger amount. With an error, the amount is not known. If the body has broken off, what
// End returns does not count, but it must be called. It may be called again.
func (r *Reader) End() (int64, error) {
	if !r.ended {
		r.ended = true
		r.finish()
	}
	switch {
	case r.err != nil:
		return 0, r.err
	case r.latest.kind == nothing:
		return 0, errAbsent
	case r.latest.kind == malformed:
		return 0, errMalformed
	}
	return r.latest.amount, nil
}

func (r *Reader) finish() {
	if r.decoder != nil {
		r.err = r.decoder.end()
	}
	r.endBOM()
	if ok := r.endTexts(); !ok && r.events == nil && r.split == 0 && r.err == nil {
		r.err = errUnreadable
	}
}

// read looks at the next piece of the decompressed body.
func (r *Reader) read(p []byte) {
	for ; r.bom < noBOM && len(p) > 0; p = p[1:] {
		if p[0] != byteOrderMark[r.bom] {
			r.endBOM()
			break
		}
		r.bom++
	}
	switch {
	case r.events != nil:
		r.events.write(p, &r.texts, func() { r.endTexts() })
	case r.split != 0:
		for {
			n := bytes.IndexByte(p, r.split)
			if n < 0 {
				break
			}
			r.texts.write(p[:n])
			r.endTexts()
			p = p[n+1:]
		}
		fallthrough
	default:
		r.texts.write(p)
	}
}

// endBOM reads what has been left out as a byte order mark and is not a whole one.
func (r *Reader) endBOM() {
	if begun := r.bom; begun < noBOM {
		r.bom = noBOM
		r.read([]byte(byteOrderMark[:begun]))
	}
}

// endTexts is called at the end of a line, an event or the body. It reports whether what stands
// there is valid.
func (r *Reader) endTexts() bool {
	found, ok := r.texts.end()
	if ok && found.kind != nothing {
		r.latest = found
	}
	r.texts.restart()
	return ok
}
