/**
 * Parses text/event-stream as the HTML standard defines it
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream).
 * The fields `id` and `retry` are ignored.
 */
export class EventStreamParser {
  // It keeps half a character for the next chunk, and drops a byte order mark.
  #decoder = new TextDecoder();
  // The beginning of a line whose end has not arrived yet.
  #line = '';
  // Whether the last chunk ended with CR: a leading LF belongs to that line end.
  #afterCR = false;
  #type = '';
  #data = '';

  /** @param {(type: string, data: string) => void} onEvent */
  constructor(onEvent) {
    this.onEvent = onEvent;
  }

  /** @param {Uint8Array} bytes */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === '') return;
    if (this.#afterCR && text[0] === '\n') text = text.slice(1);
    this.#afterCR = text === '' ? false : text.endsWith('\r');
    const lines = (this.#line + text).split(/\r\n|\n|\r/);
    this.#line = /** @type {string} */ (lines.pop());
    for (const line of lines) this.#parseLine(line);
    if (this.#line.length + this.#data.length > 1 << 20) throw new Error('an event without an end');
  }

  /** @param {string} line */
  #parseLine(line) {
    if (line === '') {
      const [type, data] = [this.#type || 'message', this.#data];
      this.#type = this.#data = '';
      if (data !== '') this.onEvent(type, data.slice(0, -1));
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'event') this.#type = value;
    if (field === 'data') this.#data += `${value}\n`;
  }
}
