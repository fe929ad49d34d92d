// The handlers of the tests, in Express. Arguments: the folder of Express.
const app = require(process.argv[2])();
const ran = (name) => (req, res) => res.set('X-Ran', name).send('done');
app.post('/api/analyze', ran('analyze'));
app.post('/api/image-analysis', ran('image-analysis'));
app.get('/api/tasks/:id/results', ran('tasks'));
app.get('/reports/', ran('reports'));
const server = app.listen(0, '127.0.0.1', () => console.log('listening on', server.address().port));
