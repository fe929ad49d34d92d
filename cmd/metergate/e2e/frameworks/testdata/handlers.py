# The handlers of the tests, in Flask, on Werkzeug's server.
import flask
from werkzeug.serving import make_server

app = flask.Flask("handlers")


@app.post("/api/analyze")
def analyze():
    return "done", {"X-Ran": "analyze"}


@app.post("/api/image-analysis")
def image_analysis():
    return "done", {"X-Ran": "image-analysis"}


@app.get("/api/tasks/<task>/results")
def results(task):
    return "done", {"X-Ran": "tasks"}


@app.get("/reports/")
def reports():
    return "done", {"X-Ran": "reports"}


server = make_server("127.0.0.1", 0, app, threaded=True)
print("listening on", server.port, flush=True)
server.serve_forever()
