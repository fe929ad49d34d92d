package reported

import "bytes"

// events splits a stream of server-sent events into the data of each event, by the rules of the
// HTML standard, section 9.2.6.
//
// The standard leaves out one space in front of the data of a line, and has no line feed after the
// last line of an event. Here they stay, because JSON ignores them.
type events struct {
	part    part
	matched int  // in the name of a field: how much of "data" the line has so far
	afterCR bool // a line feed belongs to the line that has ended
}

// A part of a line.
type part uint8

const (
	fieldName part = iota
	inData
	inOther // a comment, or another field
)

const dataField = "data"

// write reads on. It passes the data of an event to t, and calls endEvent at its end.
func (e *events) write(p []byte, t *texts, endEvent func()) {
	for len(p) > 0 {
		switch b := p[0]; {
		case b == '\n' && e.afterCR:
			p = p[1:]
		case b == '\n' || b == '\r':
			e.endLine(t, endEvent)
			p = p[1:]
			e.afterCR = b == '\r'
			continue
		case e.part == fieldName:
			e.readName(b)
			p = p[1:]
		default:
			n := bytes.IndexAny(p, "\n\r")
			if n < 0 {
				n = len(p)
			}
			if e.part == inData {
				t.write(p[:n])
			}
			p = p[n:]
		}
		e.afterCR = false
	}
}

func (e *events) readName(b byte) {
	switch {
	case e.matched < len(dataField) && b == dataField[e.matched]:
		e.matched++
	case e.matched == len(dataField) && b == ':':
		e.part = inData
	default:
		e.part = inOther
	}
}

func (e *events) endLine(t *texts, endEvent func()) {
	switch {
	case e.part == inData:
		t.write([]byte("\n"))
	case e.part == fieldName && e.matched == 0: // the line is empty
		endEvent()
	}
	e.part, e.matched = fieldName, 0
}
