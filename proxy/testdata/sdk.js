// Calls a model as applications do. Arguments: the folder of the npm packages, the SDK, the
// gateway's URL, and for each call what to ask for ("answer", "stream" or "hang") and a token.
// For each it prints a line with what the application sees.
const [modules, sdk, url, ...calls] = process.argv.slice(2);
const abort = new AbortController();
const options = { signal: abort.signal };

function ask(wish, token) {
	const messages = [{ role: 'user', content: wish }];
	const stream = wish === 'stream';
	if (sdk === '@anthropic-ai/sdk') {
		const { Anthropic } = require(modules + '/' + sdk);
		const client = new Anthropic({ baseURL: url, apiKey: null, authToken: token });
		return client.messages.create({ model: 'small', max_tokens: 9, messages, stream }, options);
	}
	const { OpenAI } = require(modules + '/' + sdk);
	const client = new OpenAI({ baseURL: url + '/v1', apiKey: token });
	return client.chat.completions.create({ model: 'small', messages, stream }, options);
}

async function result(wish, token) {
	try {
		const answer = await ask(wish, token);
		if (wish !== 'stream') return 'answered';
		let n = 0;
		for await (const event of answer) n++;
		return 'answered with ' + n + ' events';
	} catch (e) {
		const name = e.constructor.name + ' ' + (e.status ?? '-');
		// What OpenAI's SDK has in the error itself, Anthropic's has in the error of its error.
		const code = e.code ?? e.error?.error?.code;
		return code ? name + ' ' + e.type + ' ' + code + ': ' + (e.apiMessage ?? e.message) : name;
	}
}

(async () => {
	// The test writes a byte once the request has reached the upstream.
	if (calls.includes('hang')) process.stdin.once('data', () => abort.abort());
	for (let i = 0; i < calls.length; i += 2) console.log(await result(calls[i], calls[i + 1]));
	process.exit();
})();
