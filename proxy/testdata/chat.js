// Uses OpenAI's SDK as applications do. Arguments: the folder of the npm packages, the SDK, the URL of
// the API, a token, and what to do, one after the other. Prints what the application sees, as JSON.
const [modules, sdk, url, token, ...todo] = process.argv.slice(2);
const { OpenAI } = require(modules + '/' + sdk);
const client = new OpenAI({ baseURL: url + '/v1', apiKey: token, maxRetries: 0 });
const picture = 'data:image/png;base64,' + 'iVBORw0KGgo'.repeat(20000);
const show = (value) => console.log(JSON.stringify(value));

async function stream(wish, messages, more) {
	const abort = new AbortController();
	const events = await client.chat.completions.create(
		{ model: 'small', messages, stream: true, stream_options: { include_usage: true }, ...more }, { signal: abort.signal });
	for await (const event of events) {
		show(event);
		if (wish === 'abort') abort.abort();
	}
}

const wishes = {
	plain: async (wish) => show(await client.chat.completions.create({ model: 'small', messages: [{ role: 'user', content: wish }] })),
	stream: (wish) => stream(wish, [{ role: 'user', content: wish }]),
	tools: (wish) => stream(wish, [{ role: 'user', content: wish }], {
		tools: [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } } }],
	}),
	picture: (wish) => stream(wish, [{ role: 'user', content: [{ type: 'text', text: wish }, { type: 'image_url', image_url: { url: picture } }] }]),
	draw: async (wish) => show(await client.images.generate({ model: 'small-image', prompt: wish })),
	abort: (wish) => stream(wish, [{ role: 'user', content: wish }]),
};

(async () => {
	for (const wish of todo) {
		await wishes[wish](wish).then(() => show(wish + ' has ended'), (e) => show(wish + ': ' + e.constructor.name));
	}
	process.stdout.write('', () => process.exit()); // once everything is written
})();
