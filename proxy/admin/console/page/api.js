// The admin API. The token is kept in this tab only: sessionStorage is gone when the tab is closed.

const tokenKey = 'metergate-console-token';

export const getToken = () => sessionStorage.getItem(tokenKey);
export const keepToken = (token) => sessionStorage.setItem(tokenKey, token);
export const forgetToken = () => sessionStorage.removeItem(tokenKey);

/** What the gateway, or the way to it, has refused. The message is for people. */
export class Problem extends Error {
  constructor(message, { status = 0, reason = '', faults = [], retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { status, reason, faults, retryAfter });
  }
}

/** Called when the gateway no longer accepts the token. */
let onRefused = () => {};
export const whenRefused = (callback) => { onRefused = callback; };

const isAbort = (error) => error?.name === 'AbortError';

function address(path, query) {
  const url = new URL(`admin/${path}`, document.baseURI);
  url.hash = '';
  url.search = query ? new URLSearchParams(query).toString() : '';
  return url;
}

async function send(path, { query, signal, accept, method = 'GET', body, key, token = getToken(), quiet = false } = {}) {
  const headers = { Authorization: `Bearer ${token}`, Accept: accept ?? 'application/json' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (key) headers['Idempotency-Key'] = `"${key}"`;
  let response;
  try {
    response = await fetch(address(path, query), {
      method, headers, signal, cache: 'no-store', credentials: 'omit', redirect: 'error',
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Problem('The gateway does not answer. It may be stopped, or unreachable from here.');
  }
  if (response.ok) return response;
  const problem = await readProblem(response);
  if (!quiet && isAboutToken(problem)) onRefused(problem);
  throw problem;
}

/** Reports whether the gateway refuses whatever is sent with this token. */
export const isAboutToken = ({ status, reason, message }) => status === 401
  || status === 403 && reason !== 'read_only' && message.includes('admin.token is not set')
  || status === 429 && message.startsWith('The token is wrong'); // after many wrong tokens, in place of 401

async function readProblem(response) {
  const { status } = response;
  let detail = `The gateway answered ${status}.`, reason, faults;
  try {
    const document = await response.json();
    if (document.detail) ({ detail, reason, faults } = document);
  } catch { /* not a problem document: a proxy in between has answered */ }
  return new Problem(detail, { status, reason, faults, retryAfter: Number(response.headers.get('Retry-After')) || 0 });
}

/** Sends a request and returns the JSON of its answer. */
export async function call(path, options) {
  const response = await send(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Problem('The answer of the gateway broke off.');
  }
}

/**
 * Yields the events of a stream as { event, data }. A route that answers with one JSON object gives one
 * event. onAlive is called for whatever arrives, comments included.
 */
export async function* events(path, { onAlive = () => {}, ...options } = {}) {
  const response = await send(path, { ...options, accept: 'text/event-stream' });
  if (!response.headers.get('Content-Type')?.startsWith('text/event-stream')) {
    yield { event: 'page', data: await response.json() };
    return;
  }
  try {
    let rest = '';
    for await (const text of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
      onAlive();
      const blocks = (rest + text).split('\n\n');
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event) yield event;
      }
    }
  } catch (error) {
    if (isAbort(error) || error instanceof Problem) throw error;
    throw new Problem('The connection to the gateway broke off.');
  }
}

/** Yields what a search has found so far, again and again until it is done. */
export async function* pages(path, options) {
  let done = false;
  for await (const { event, data } of events(path, options)) {
    if (event === 'error') throw new Problem(data.detail);
    if (event !== 'page') continue;
    ({ done } = data);
    yield data;
  }
  if (!done) throw new Problem('The search broke off before all users were read.');
}

// Not every browser can iterate over a stream.
async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(block) {
  let event = 'message';
  const data = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('event:')) event = line.slice(6).trim();
    else if (line.startsWith('data:')) data.push(line.slice(5));
  }
  return data.length ? { event, data: JSON.parse(data.join('\n')) } : null;
}

/** A key for a change that is to be made once, however often it is sent. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}
