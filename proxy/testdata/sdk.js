// Calls a model as applications do. Arguments: the folder of the npm packages, the SDK, the
// gateway's URL, a token, and what to ask for: "answer", "stream" or "hang". It prints what
// the application sees.
const [modules, sdk, url, token, wish] = process.argv.slice(2);
const messages = [{ role: 'user', content: wish }];
const abort = new AbortController();
const options = { signal: abort.signal };
const kinds = {
	openai() {
		const { OpenAI } = require(modules + '/openai');
		const client = new OpenAI({ baseURL: url + '/v1', apiKey: token });
		return client.chat.completions.create({ model: 'small', messages, stream: wish === 'stream' }, options);
	},
	anthropic() {
		const { Anthropic } = require(modules + '/@anthropic-ai/sdk');
		const client = new Anthropic({ baseURL: url, apiKey: null, authToken: token });
		return client.messages.create({ model: 'small', max_tokens: 9, messages, stream: wish === 'stream' }, options);
	},
};
if (wish === 'hang') {
	// The test writes a byte once the request has reached the upstream.
	process.stdin.once('data', () => abort.abort());
}
(async () => {
	const answer = await kinds[sdk]();
	if (wish !== 'stream') return 'answered';
	let n = 0;
	for await (const event of answer) n++;
	return 'answered with ' + n + ' events';
})().then(console.log, (e) => console.log(e.constructor.name, e.status ?? '-', e.headers?.get('x-usage') ?? '-')).then(() => process.exit());
