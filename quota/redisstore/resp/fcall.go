package resp

import "slices"

// MostCalls bounds how many calls are one command: Redis does nothing else meanwhile.
const MostCalls = 32

// A Call is a call of a function on a key.
type Call struct {
	Key string
	// Terms are one argument that is the same for many calls. They must not change.
	Terms *Args
	Own   Args // the arguments of this call alone, at most 255
}

// An FCallEncoder encodes calls as one command. It keeps the memory that it needs for that, which would make the stack of a waiting
// request larger. The zero value is ready. It is not safe for concurrent use.
type FCallEncoder struct {
	shape []byte
	terms []*Args
}

// Append appends the command that has a function serve 1 to MostCalls calls. Its keys are those of the calls, in
// their order. shared is one more argument, a number that the calls have in common. With a single call, the arguments
// are shared, the terms, and the call's own arguments. With several they are:
//
//	ARGV[1]      shared
//	ARGV[2]      in bytes: how many terms there are; then for each call which of them are its terms, from 1 on, and
//	             how many arguments it has of its own
//	ARGV[3]...   the terms, each once; then the own arguments of the first call, of the second one, and so on
func (e *FCallEncoder) Append(b []byte, function string, shared int64, calls []*Call) []byte {
	if len(calls) == 1 {
		c := calls[0]
		command := beginScript(b, "FCALL", function, 1, 2+c.Own.n)
		command.AddString(c.Key)
		command.AddInt(shared)
		command.AddAll(c.Terms)
		command.AddAll(&c.Own)
		return command.encoded
	}
	e.shape, e.terms = append(e.shape[:0], 0), e.terms[:0]
	own := 0
	for _, c := range calls {
		t := slices.Index(e.terms, c.Terms)
		if t < 0 {
			t, e.terms = len(e.terms), append(e.terms, c.Terms)
		}
		e.shape = append(e.shape, byte(t+1), byte(c.Own.n))
		own += c.Own.n
	}
	e.shape[0] = byte(len(e.terms))
	command := beginScript(b, "FCALL", function, len(calls), 2+len(e.terms)+own)
	for _, c := range calls {
		command.AddString(c.Key)
	}
	command.AddInt(shared)
	command.begin(len(e.shape))
	command.encoded = append(append(command.encoded, e.shape...), "\r\n"...)
	for _, t := range e.terms {
		command.AddAll(t)
	}
	for _, c := range calls {
		command.AddAll(&c.Own)
	}
	clear(e.terms) // layouts come and go
	return command.encoded
}
