package resp

// MostCalls is the number of calls that one FCALL may have.
const MostCalls = 32

// A Call is what one call of a function is about.
type Call struct {
	Key string
	// Terms are one argument that is the same for many calls. They must not change.
	Terms *Args
	Own   Args // at most 255
}

// AppendFCall appends the command that has a function serve calls, 1 to MostCalls. Its keys are those of the calls, in
// their order. For a single call, its arguments are shared, in decimal, the terms, and the call's own arguments. For several
// they are:
//
//	ARGV[1]      shared
//	ARGV[2]      in bytes: how many terms there are; then for each call which of them are its terms, from 1 on, and
//	             how many arguments it has of its own
//	ARGV[3]...   the terms, each once; then the own arguments of the first call, of the second one, and so on
func AppendFCall(b []byte, function string, shared int64, calls []*Call) []byte {
	if len(calls) == 1 {
		c := calls[0]
		command := beginScript(b, "FCALL", function, 1, 2+c.Own.n)
		command.AddString(c.Key)
		command.AddInt(shared)
		command.AddAll(c.Terms)
		command.AddAll(&c.Own)
		return command.encoded
	}
	var (
		shape    [1 + 2*MostCalls]byte
		terms    [MostCalls]*Args
		numTerms int
		own      int
	)
	for i, c := range calls {
		t := 0
		for t < numTerms && terms[t] != c.Terms {
			t++
		}
		if t == numTerms {
			terms[t] = c.Terms
			numTerms++
		}
		shape[1+2*i], shape[2+2*i] = byte(t+1), byte(c.Own.n)
		own += c.Own.n
	}
	shape[0] = byte(numTerms)
	command := beginScript(b, "FCALL", function, len(calls), 2+numTerms+own)
	for _, c := range calls {
		command.AddString(c.Key)
	}
	command.AddInt(shared)
	command.AddString(string(shape[:1+2*len(calls)]))
	for _, t := range terms[:numTerms] {
		command.AddAll(t)
	}
	for _, c := range calls {
		command.AddAll(&c.Own)
	}
	return command.encoded
}
