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
  #type = '';
  #data = '';

  /** @param {(type: string, data: string) => void} onEvent */
  constructor(onEvent) {
    this.onEvent = onEvent;
  }

  /** @param {Uint8Array} bytes */
  push(bytes) {
    // A CR at the end waits: an LF may follow, which would belong to it.
    const lines = (this.#line + this.#decoder.decode(bytes, { stream: true })).split(/\r\n|\n|\r(?=[^\n])/);
    this.#line = /** @type {string} */ (lines.pop());
    for (const line of lines) {
      // A comment has a field without a name.
      const [, field, value] = /** @type {string[]} */ (/^([^:]*):? ?(.*)/s.exec(line));
      if (field === 'event') this.#type = value;
      if (field === 'data') this.#data += `${value}\n`;
      if (line) continue;
      const [type, data] = [this.#type || 'message', this.#data];
      this.#type = this.#data = '';
      if (data) this.onEvent(type, data.slice(0, -1));
    }
  }
}
