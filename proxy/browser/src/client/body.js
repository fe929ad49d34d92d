/**
 * Returns the same response, and calls ended once its body has been read to the end, has been cancelled or
 * has broken off. Nothing is read that the application does not read.
 * @param {Response} response with a body
 * @param {() => void} ended
 * @returns {Response}
 */
export function noticeEnd(response, ended) {
  const reader = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (response.body).getReader();
  let open = true;
  const end = () => {
    if (open) ended();
    open = false;
  };
  const body = new ReadableStream({
    type: 'bytes',
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        end();
        controller.close();
        controller.byobRequest?.respond(0); // otherwise a read into the caller's buffer would never end
      } catch (error) {
        end();
        throw error;
      }
    },
    cancel(reason) {
      end();
      return reader.cancel(reason);
    },
  });
  const { status, statusText, headers } = response;
  const copy = new Response(body, { status, statusText, headers });
  // A response that is made by hand does not know these.
  const { url, redirected, type } = response;
  for (const [name, value] of Object.entries({ url, redirected, type })) Object.defineProperty(copy, name, { value });
  return copy;
}
