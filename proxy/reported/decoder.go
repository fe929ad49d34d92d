package reported

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"iter"
	"strings"
)

// A decoder decompresses what is written to it. The decompressors of the standard library ask for
// their input. So one runs as a coroutine, which stands still until there is more.
type decoder struct {
	input []byte // what write has brought and nobody has read yet
	ended bool   // no input follows
	err   error  // once the coroutine has ended

	resume func() (struct{}, bool) // runs the coroutine until it needs input, or has ended
	wait   func(struct{}) bool     // called in the coroutine: stops it until resume is called
}

// newDecoder decodes a content encoding, and passes to use what it decodes, limit bytes at most.
// It returns nil if it does not know the encoding. end must be called.
func newDecoder(encoding string, limit int64, use func([]byte)) *decoder {
	var open func(io.Reader) (io.Reader, error)
	switch strings.ToLower(encoding) {
	case "gzip", "x-gzip":
		open = func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
	case "deflate":
		open = openDeflate
	default:
		return nil
	}
	d := &decoder{}
	d.resume, _ = iter.Pull(func(wait func(struct{}) bool) {
		d.wait = wait
		if err := d.decode(open, limit, use); err != nil {
			d.err = fmt.Errorf("decompressing the body: %w", err)
		}
	})
	return d
}

// openDeflate reads the zlib format, as RFC 9110, section 8.4.1.2, demands, and also the bare
// deflate format, which some servers send.
func openDeflate(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(r)
	header, _ := buffered.Peek(2)
	isZlib := len(header) == 2 && header[0]&0x0f == 8 && (int(header[0])<<8|int(header[1]))%31 == 0
	if isZlib {
		return zlib.NewReader(buffered)
	}
	return flate.NewReader(buffered), nil
}

func (d *decoder) decode(open func(io.Reader) (io.Reader, error), limit int64, use func([]byte)) error {
	decoded, err := open((*decoderInput)(d))
	if err != nil {
		return err
	}
	left := limit
	for buffer := make([]byte, 4<<10); ; {
		n, err := decoded.Read(buffer)
		if left -= int64(n); left < 0 {
			return fmt.Errorf("it has more than %d bytes", limit)
		}
		use(buffer[:n])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// write decodes p. It returns an error once the body cannot be decoded.
func (d *decoder) write(p []byte) error {
	d.input = p
	d.resume()
	d.input = nil
	return d.err
}

// end tells that no input follows, so the coroutine ends. It returns an error if the body cannot be
// decoded, or was not complete.
func (d *decoder) end() error {
	d.ended = true
	d.resume()
	return d.err
}

// A decoderInput is what the coroutine reads from.
type decoderInput decoder

func (d *decoderInput) Read(p []byte) (int, error) {
	for len(d.input) == 0 {
		if d.ended {
			return 0, io.EOF
		}
		d.wait(struct{}{})
	}
	n := copy(p, d.input)
	d.input = d.input[n:]
	return n, nil
}
