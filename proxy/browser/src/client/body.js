/**
 * Returns the same response, and calls ended once its body has been read to the end, has been cancelled or
 * has broken off. Nothing is read that the application does not read.
 * @param {Response} response with a body
 * @param {() => void} ended what has happened already must not happen twice
 * @returns {Response}
 */
export function noticeEnd(response, ended) {
  /** @type {ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>} */ let reader;
  const source = {
    /** @param {any} controller */
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        ended();
        controller.close();
        controller.byobRequest?.respond(0); // otherwise a read into the caller's buffer would never end
      } catch (error) {
        ended();
        throw error;
      }
    },
    /** @param {any} reason */
    cancel(reason) {
      ended();
      return reader.cancel(reason);
    },
  };
  const copy = new Response(streamOf(source), response);
  reader = /** @type {any} */ (response.body).getReader();
  return imitate(copy, response);
}

/** A stream that reads only when it is read from. Older browsers have no streams of bytes. @param {any} source */
function streamOf(source) {
  try {
    return new ReadableStream({ type: 'bytes', ...source });
  } catch {
    return new ReadableStream(source, { highWaterMark: 0 });
  }
}

/**
 * Gives a response, and its clones, what one that is made by hand does not know.
 * @param {Response} copy @param {Response} original
 */
function imitate(copy, original) {
  for (const name of /** @type {const} */ (['url', 'redirected', 'type'])) Object.defineProperty(copy, name, { value: original[name] });
  copy.clone = () => imitate(Response.prototype.clone.call(copy), original);
  return copy;
}
