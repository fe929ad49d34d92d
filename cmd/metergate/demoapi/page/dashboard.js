// The dashboard of `metergate demo`: a playground to send requests. What it has to do with the usage
// stands in usage.js.
import { capital, h, plural, RESULTS } from './results.js';
import { allUsers, chooseUser, currentUser, isUser, loadUsers } from './session.js';
import { post, showPrices, usage } from './usage.js';

const $ = (id) => document.getElementById(id);
const clock = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });

const USAGE_HEADERS = [
  'X-Usage', 'X-Usage-Cost', 'X-Usage-Pending', 'RateLimit', 'RateLimit-Policy', 'X-RateLimit-Limit', 'X-RateLimit-Remaining',
  'X-RateLimit-Reset', 'Retry-After', 'X-Should-Retry', 'X-Request-Id',
];
const MAX_ENTRIES = 50; // requests

// The signed-in user.

function showUsers() {
  $('users').replaceChildren(...allUsers().map((u) => h('label', { className: 'user' },
    h('input', { type: 'radio', name: 'user', value: u.name, checked: u.name === currentUser(), change: () => signIn(u.name) }),
    h('span', { className: 'face', ariaHidden: 'true' }, capital(u.name)[0]),
    h('span', { className: 'name' }, u.name),
    h('span', { className: 'plan' }, u.plan),
    h('span', { className: 'more' }, u.about))));
  $('users').removeAttribute('aria-busy');
}

function signIn(name) {
  chooseUser(name);
  history.replaceState(null, '', `#${name}`);
  for (const input of $('users').querySelectorAll('input')) input.checked = input.value === name;
  usage.refresh();
  say(`Signed in as ${name}`);
}

addEventListener('hashchange', () => {
  const name = location.hash.slice(1);
  if (isUser(name) && name !== currentUser()) signIn(name);
});

// The connection and the title of the page.

const CONNECTIONS = { idle: 'Connecting', live: 'Live', polling: 'Every 10 seconds', offline: 'Offline' };

function showConnection() {
  const { connection, problem, current } = usage;
  $('connection').dataset.state = connection;
  $('connection').lastElementChild.textContent = CONNECTIONS[connection];
  const offline = connection === 'offline';
  $('banner').textContent = !offline ? ''
    : problem === 'unauthorized' ? 'The gateway does not accept the token. If you restarted the demo, reload the page.'
    : `The gateway does not answer.${current ? ' The numbers are the last known ones.' : ''} Is metergate demo still running? The page reconnects by itself.`;
  if (!allUsers().length) {
    if (offline) $('users').replaceChildren(h('p', { className: 'dim' }, 'No users yet: the gateway has not answered.'));
    return;
  }
  if (!$('users').querySelector('input')) showUsers();
  for (const button of document.querySelectorAll('.compose button')) button.disabled = false;
}

usage.addEventListener('connection', showConnection);
usage.subscribe((state) => {
  showConnection();
  showPrices(document.querySelectorAll('[data-call]'), state);
  document.title = state ? `${state.used}${state.limit === null ? '' : `/${state.limit}`} · Metergate demo` : 'Metergate demo';
});

let speaking;
function say(words) {
  clearTimeout(speaking); // of several texts in a row only the last is spoken
  speaking = setTimeout(() => { $('spoken').textContent = words; }, 300);
}

// Requests. The list has an entry for each, and one for a burst.

let entries = [];
let shown = null; // the entry whose result is shown
let lastId = 0;

function addEntry(properties) {
  const entry = { id: ++lastId, user: currentUser(), at: new Date(), unit: usage.current?.unit, status: null, ms: null, fields: {}, ...properties };
  entry.item = h('li', { className: 'new' });
  entries = [entry, ...entries].slice(0, MAX_ENTRIES);
  shown = entry;
  show(entry);
  return entry;
}

const headersOf = (response) => Object.fromEntries(
  USAGE_HEADERS.map((name) => [name, response.headers.get(name)]).filter(([, value]) => value !== null));

/**
 * Sends one request. It never throws: status 0 means that there was no response, or that it broke off.
 * read returns the answer of a response that is a stream of events.
 */
async function send(endpoint, path, body, type, read) {
  const started = performance.now();
  try {
    const response = await post(path, body, type, endpoint);
    const fields = headersOf(response);
    if (read && response.headers.get('Content-Type') === 'text/event-stream') {
      return { status: response.status, fields, answer: await read(response), ms: performance.now() - started };
    }
    const text = await response.text();
    let answer = text;
    try {
      answer = JSON.parse(text);
    } catch { /* not JSON: shown as text */ }
    return { status: response.status, fields, answer, ms: performance.now() - started };
  } catch (error) {
    return { status: 0, fields: {}, answer: String(error), ms: performance.now() - started };
  }
}

async function sendOne(endpoint, { query = '', body = $('text').value, type = 'text/plain; charset=utf-8', picture } = {}) {
  const path = `/api/${endpoint}${query}`;
  const entry = addEntry({ endpoint, path, query, picture });
  Object.assign(entry, await send(endpoint, path, body, type));
  show(entry);
  say(`${endpoint}: ${entry.status || 'no response'}. ${verdict(entry).join(' ')}`);
}

/** Sends the text to the model, and shows its answer word by word. What it costs is known at its end. */
async function sendChat() {
  const path = '/v1/chat/completions';
  const entry = addEntry({ endpoint: 'chat', path, query: '', said: '' });
  const body = JSON.stringify({
    messages: [{ role: 'user', content: $('text').value }], stream: true, stream_options: { include_usage: true },
  });
  const result = await send('chat', path, body, 'application/json', async (response) => {
    entry.fields = headersOf(response);
    let tokens = null;
    for await (const event of eventsOf(response)) {
      entry.said += event.choices[0]?.delta.content ?? '';
      tokens = event.usage?.total_tokens ?? tokens;
      showSoon(entry);
    }
    return { text: entry.said, tokens };
  });
  Object.assign(entry, result);
  show(entry);
  say(`chat: ${entry.status || 'no response'}. ${verdict(entry).join(' ')}`);
}

/** The events of a stream: what stands in the data of each, but for the last, [DONE]. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split('\n\n');
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, '');
      if (data !== '[DONE]') yield JSON.parse(data);
    }
  }
}

async function sendBurst(n) {
  const path = '/api/analyze';
  const entry = addEntry({ endpoint: 'analyze', path, query: '', results: Array(n).fill(null) });
  const started = performance.now();
  await Promise.all(entry.results.map(async (_, i) => {
    const result = await send('analyze', path, $('text').value, 'text/plain; charset=utf-8');
    entry.results[i] = result;
    const used = (r) => parseInt(r?.fields['X-Usage'] ?? '0', 10);
    if (!entry.fields['X-Usage'] || used(result) >= used(entry) || result.fields['Retry-After']) entry.fields = result.fields;
    showSoon(entry);
  }));
  entry.ms = performance.now() - started;
  entry.status = Math.max(...entry.results.map((r) => r.status));
  show(entry);
  say(`${n} requests at once. ${verdict(entry).join(' ')}`);
}

const kindOf = (status) => (status === null ? 'running' : status >= 200 && status < 300 ? 'ok' : status === 429 ? 'refused' : 'failed');
const kind = (entry) => (entry.results && entry.status !== null && entry.results.some((r) => r.status === 429) ? 'refused' : kindOf(entry.status));
const duration = (ms) => (ms === null ? '' : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** Says what a request did to the count: a word and an explanation. */
function verdict(entry) {
  const { 'X-Usage': used, 'X-Usage-Cost': cost } = entry.fields;
  const now = used ? `X-Usage is ${used}.` : '';
  if (entry.results) {
    const ended = entry.results.filter((r) => r);
    const counted = ended.filter((r) => kindOf(r.status) === 'ok').length;
    const refused = ended.filter((r) => r.status === 429).length;
    const failed = ended.length - counted - refused;
    if (entry.status === null) return [`${ended.length} of ${entry.results.length} finished.`, now];
    return [`${counted} counted${refused ? `, ${refused} refused` : ''}${failed ? `, ${failed} failed` : ''}.`, now];
  }
  switch (kind(entry)) {
    case 'running': return cost
      ? ['Counted so far.', `X-Usage-Cost is ${cost}. The gateway holds what it may cost beyond that until the answer has ended.`]
      : ['Running.', 'The gateway holds what it may cost and has not counted it yet.'];
    case 'ok':
      if (entry.unit !== 'units') return ['Counted.', now];
      return ['Counted.', entry.answer.tokens
        ? `X-Usage-Cost was ${cost}, before the ${plural(entry.answer.tokens, 'token')} were known. The meter shows the price.`
        : `X-Usage-Cost is ${cost}. ${now}`];
    case 'refused': return ['Refused.', `The request did not reach the API. ${now}`];
    default: return entry.status
      ? ['Not counted.', `The request failed, so the gateway gave back what it held. ${now}`]
      : ['No response.', 'The request is counted only if it had already succeeded. The meter shows whether it was.'];
  }
}

// Showing the requests.

let scheduled = null;
function showSoon(entry) {
  scheduled ??= requestAnimationFrame(() => {
    scheduled = null;
    show(entry);
  });
}

function show(entry) {
  showItem(entry);
  const items = entries.map((e) => e.item);
  if ($('requests').children.length !== items.length || $('requests').firstElementChild !== items[0]) $('requests').replaceChildren(...items);
  $('requests-empty').hidden = entries.length > 0;
  $('requests-columns').hidden = $('clear').hidden = !entries.length;
  if (entry === shown) showResult(entry);
}

function badge(entry) {
  const text = entry.status === null ? '···' : entry.results ? `${entry.results.length}×` : entry.status || 'none';
  return h('span', { className: `status ${kind(entry)}`, title: entry.status === 0 ? 'no response' : '' }, text);
}

function showItem(entry) {
  const { fields, item } = entry;
  const open = item.querySelector('details')?.open ?? false;
  const limit = fields['Retry-After'] ? `Retry-After: ${fields['Retry-After']}` : fields.RateLimit ?? '';
  const running = entry.status === null;
  const details = h('details', { open },
    h('summary', null,
      badge(entry), ' ',
      h('span', { className: 'call' }, entry.endpoint, h('span', null, ` ${entry.results ? 'at once' : entry.query}`)), ' ',
      h('span', { className: 'used' }, fields['X-Usage'] ?? (running ? '' : '–')), ' ',
      h('span', { className: 'limit' }, limit || (running ? '' : '–')), ' ',
      h('span', { className: 'ms' }, duration(entry.ms))),
    h('dl', { className: 'fields' }, ...[
      ['Request', `POST ${entry.path}`],
      ['Sent', `${clock.format(entry.at)}, as ${entry.user}`],
      ...Object.entries(fields),
    ].flatMap(([name, value]) => [h('dt', null, name), h('dd', null, value)])));
  const had = item.contains(document.activeElement);
  item.replaceChildren(details);
  if (had) details.firstElementChild.focus();
}

function showResult(entry) {
  $('result-facts').replaceChildren(badge(entry), entry.ms === null ? '' : duration(entry.ms));
  const parts = [answer(entry)];
  const [word, reason] = verdict(entry);
  parts.push(h('p', { className: `verdict ${kind(entry)}` }, h('i'), h('span', null, h('b', null, word), ` ${reason}`)));
  if (entry.status && !entry.results) {
    const raw = typeof entry.answer === 'string' ? entry.answer : JSON.stringify(entry.answer, null, 2);
    if (raw) parts.push(h('details', { className: 'raw' }, h('summary', null, 'The response body'), h('pre', { tabIndex: 0, role: 'region', ariaLabel: 'Response body' }, raw)));
  }
  $('result').replaceChildren(...parts);
}

function answer(entry) {
  const box = (...children) => h('div', { className: 'answer' }, ...children);
  if (entry.results) {
    return box(
      h('h3', null, `${entry.results.length} ${entry.endpoint} requests at once`),
      h('div', { className: 'dots', role: 'img', ariaLabel: verdict(entry)[0] }, ...entry.results.map((r) => h('i', { className: r ? kindOf(r.status) : '' }))),
      h('p', { className: 'dim' }, 'Before it forwards a request, the gateway holds what it may cost, in one atomic step. So it never admits more requests than are left.'));
  }
  const { answer, status } = entry;
  switch (kind(entry)) {
    case 'running': return entry.said ? box(h('p', { className: 'quote' }, entry.said))
      : box(h('h3', null, `POST ${entry.path}`), h('div', { className: 'waiting' }), h('div', { className: 'waiting' }));
    case 'refused': return box(
      h('h3', null, answer.title ?? 'Too many requests'),
      h('p', null, answer.detail ?? ''),
      h('p', { className: 'dim' }, entry.fields['Retry-After'] ? `Retry-After: try again in ${inWords(Number(entry.fields['Retry-After']))}.` : ''));
    case 'failed': return box(
      h('h3', null, status ? `The response was ${status}` : 'No response'),
      h('p', { className: 'dim' }, status ? problemText(entry) : 'The gateway could not be reached, or the connection was lost.'));
  }
  try {
    return box(...RESULTS[entry.endpoint](answer, entry));
  } catch { // the gateway has another API behind it
    return box(h('h3', null, `${entry.endpoint} answered ${status}`));
  }
}

function problemText({ status, answer }) {
  if (status === 502) return 'The gateway answers this, because the API closed the connection.';
  if (typeof answer === 'object') return capital(answer.detail ?? answer.error ?? answer.title ?? 'no reason given') + '.';
  return status === 304 ? 'Only 2xx is a success: a redirect or a 304 does not count.' : '';
}

function inWords(seconds) {
  const [size, unit] = [[86400, 'day'], [3600, 'hour'], [60, 'minute'], [1, 'second']].find(([size]) => seconds >= size) ?? [1, 'second'];
  return plural(Math.round(seconds / size), unit);
}

// The image: a sample, until the user chooses another.

// A promise of the file to send and a canvas that shows it: browsers take a while to draw an image.
let image;

/** Draws an image on a canvas that is at most that large. */
function drawScaled(source, width, height, most = 640) {
  const scale = Math.min(1, most / Math.max(width, height, 1));
  const canvas = h('canvas', { width: Math.max(1, width * scale), height: Math.max(1, height * scale) });
  canvas.getContext('2d').drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Shows what was chosen, once it is drawn, unless something else was chosen in the meantime. */
async function useImage(chosen) {
  image = chosen;
  const { file, picture, facts } = await chosen;
  if (image === chosen) showImage(file.name, facts, picture);
}

function showImage(name, facts, picture) {
  $('image-name').textContent = name;
  $('image-facts').textContent = facts;
  const { width, height } = $('thumbnail');
  const context = $('thumbnail').getContext('2d');
  context.clearRect(0, 0, width, height);
  if (!picture.width) return;
  const scale = Math.max(width / picture.width, height / picture.height);
  context.drawImage(picture, (width - picture.width * scale) / 2, (height - picture.height * scale) / 2, picture.width * scale, picture.height * scale);
}

const size = (bytes) => (bytes < 1000 ? `${bytes} bytes` : bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

async function drawFile(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const { width, height } = bitmap;
    return { file, picture: drawScaled(bitmap, width, height), facts: `${width} × ${height}, ${size(file.size)}` };
  } catch { // the API will report it
    return { file, picture: h('canvas', { width: 0, height: 0 }), facts: `${size(file.size)}, not an image that this browser can show` };
  }
}

async function drawSample() {
  const canvas = h('canvas', { width: 480, height: 270 });
  const c = canvas.getContext('2d');
  const fill = (colours, from, to) => {
    const gradient = c.createLinearGradient(0, from, 0, to);
    colours.forEach((colour, i) => gradient.addColorStop(i / (colours.length - 1), colour));
    c.fillStyle = gradient;
  };
  fill(['#2b3a67', '#7a6a9b', '#e59a8f', '#ffd9a0'], 0, 200);
  c.fillRect(0, 0, 480, 270);
  c.fillStyle = '#fff1cf';
  c.beginPath();
  c.arc(312, 138, 34, 0, 2 * Math.PI);
  c.fill();
  for (const [y, height, step, colours] of [[168, 26, 90, ['#8a6f96', '#6a5a86']], [196, 20, 64, ['#57507c', '#423f69']], [230, 15, 110, ['#2f3158', '#1d2140']]]) {
    fill(colours, y - height, 270);
    c.beginPath();
    c.moveTo(0, 270);
    for (let x = 0; x <= 480; x += 4) c.lineTo(x, y + Math.sin(x / step + y) * height + Math.sin(x / 23 + y) * height / 6);
    c.lineTo(480, 270);
    c.fill();
  }
  const blob = await new Promise((done) => { canvas.toBlob(done, 'image/png'); });
  const file = new File([blob], 'sunrise.png', { type: 'image/png' });
  return { file, picture: canvas, facts: `480 × 270, ${size(file.size)}` };
}

useImage(drawSample());
$('file').addEventListener('change', ({ target }) => { if (target.files[0]) useImage(drawFile(target.files[0])); });
// Without this, a file dropped beside the zone would replace the page.
addEventListener('dragover', (event) => event.preventDefault());
addEventListener('drop', (event) => event.preventDefault());
$('drop').addEventListener('dragenter', () => $('drop').classList.add('over-it'));
$('drop').addEventListener('dragleave', (event) => {
  if (!$('drop').contains(event.relatedTarget)) $('drop').classList.remove('over-it');
});
$('drop').addEventListener('drop', (event) => {
  $('drop').classList.remove('over-it');
  const [file] = event.dataTransfer.files;
  if (file) useImage(drawFile(file));
});

async function analyzeImage() {
  const { file, picture } = await image;
  const form = new FormData();
  form.append('image', file);
  const encoded = new Response(form); // it makes the Content-Type of the form
  await sendOne('image-analysis', { body: await encoded.blob(), type: encoded.headers.get('Content-Type'), picture });
}

// Buttons.

/** Runs a job on each press, and shows that it is running. The button stays enabled. */
function onPress(button, job) {
  let running = 0;
  button.addEventListener('click', async () => {
    running++;
    const slow = setTimeout(() => { button.ariaBusy = 'true'; }, 150); // most jobs finish earlier
    try {
      await job();
    } finally {
      clearTimeout(slow);
      if (--running === 0) button.ariaBusy = null;
    }
  });
}

for (const button of document.querySelectorAll('[data-call]')) {
  const endpoint = button.dataset.call;
  onPress(button, () => (
    endpoint === 'image-analysis' ? analyzeImage() : endpoint === 'chat' ? sendChat() : sendOne(endpoint)));
}
onPress($('fail'), () => sendOne('analyze', { query: `?fail=${$('fail-status').value}` }));
onPress($('slow'), () => sendOne('analyze', { query: '?delay=3s' }));
onPress($('burst'), () => sendBurst(50));

const sampleText = $('text').value;
$('text').addEventListener('input', () => { $('sample-text').hidden = $('text').value === sampleText; });
$('sample-text').addEventListener('click', () => {
  $('text').value = sampleText;
  $('sample-text').hidden = true;
  $('text').focus();
});
$('clear').addEventListener('click', () => {
  entries = [];
  $('requests').replaceChildren();
  $('requests-empty').hidden = false;
  $('requests-columns').hidden = $('clear').hidden = true;
  $('requests-title').tabIndex = -1;
  $('requests-title').focus();
});

// A real product would open its pricing page. Here it offers to sign in on the pro plan.
document.addEventListener('upgrade', (event) => {
  event.preventDefault();
  $('upgrade-url').textContent = event.detail.url;
  $('upgrade-switch').hidden = currentUser() === 'bob';
  $('upgrade').showModal();
});
$('upgrade').addEventListener('close', () => {
  if ($('upgrade').returnValue === 'switch') signIn('bob');
  $('upgrade').returnValue = '';
});
