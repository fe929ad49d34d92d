package proxy

import "time"

// SetBounds changes how long a client may take to read an answer, and to send the rest of
// a body after the answer.
func (g *Gateway) SetBounds(stall, linger time.Duration) {
	g.stall, g.lingerTimeout, g.lingerPause = stall, linger, linger
}
