package reported

import "bytes"

// events splits a stream of server-sent events by the rules of the HTML standard, section 9.2.6,
// into the data of each event.
type events struct {
	part    part
	matched int  // in the name of a field: how much of "data" the line has so far
	afterCR bool // a line feed belongs to the line that has ended
	hasData bool // the event has a line of data
}

// A part of a line.
type part uint8

const (
	fieldName  part = iota
	afterColon      // of a line of data: the next byte is left out if it is a space
	inData
	inOther // a comment, or another field
)

const dataField = "data"

// write reads on. It passes the data of an event to t, a line feed between its lines, and calls
// endEvent at its end.
func (e *events) write(p []byte, t *texts, endEvent func()) {
	for len(p) > 0 {
		b := p[0]
		if e.afterCR {
			if e.afterCR = false; b == '\n' {
				p = p[1:]
				continue
			}
		}
		switch {
		case b == '\n' || b == '\r':
			e.afterCR = b == '\r'
			e.endLine(t, endEvent)
			p = p[1:]
		case e.part == fieldName:
			e.readName(b, t)
			p = p[1:]
		case e.part == afterColon:
			if e.part = inData; b == ' ' {
				p = p[1:]
			}
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
	}
}

func (e *events) readName(b byte, t *texts) {
	switch {
	case e.matched < len(dataField) && b == dataField[e.matched]:
		e.matched++
	case e.matched == len(dataField) && b == ':':
		e.beginData(t)
		e.part = afterColon
	default:
		e.part = inOther
	}
}

func (e *events) beginData(t *texts) {
	if e.hasData {
		t.write([]byte("\n"))
	}
	e.hasData = true
}

func (e *events) endLine(t *texts, endEvent func()) {
	if e.part == fieldName {
		switch e.matched {
		case 0: // the line is empty
			endEvent()
			e.hasData = false
		case len(dataField): // a line of data without a colon
			e.beginData(t)
		}
	}
	e.part, e.matched = fieldName, 0
}
