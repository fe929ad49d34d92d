// A proxy in Node.js that verifies tokens and limits with express-rate-limit, whose counts are in Redis.
// skipFailedRequests takes a count back after a response that is no success was sent.
const express = require('express')
const { rateLimit } = require('express-rate-limit')
const { createProxyMiddleware } = require('http-proxy-middleware')
const jwt = require('jsonwebtoken')
const { RedisStore } = require('rate-limit-redis')
const { createClient } = require('redis')
const { createSecretKey } = require('crypto')
const http = require('http')

const { ADDRESS, UPSTREAM, REDIS, LIMIT, SECRET } = process.env

const client = createClient({ url: REDIS })
client.on('error', (err) => console.error(err.message)) // without a listener, the process ends when Redis goes away
const key = createSecretKey(Buffer.from(SECRET)) // given a string, jsonwebtoken first tries it as a public key, each time

function authenticate(req, res, next) {
  try {
    req.user = jwt.verify(req.headers.authorization.slice('Bearer '.length), key, { algorithms: ['HS256'] }).sub
    next()
  } catch {
    res.status(401).end()
  }
}

async function main() {
  await client.connect()
  const app = express()
  app.disable('x-powered-by')
  app.use(authenticate)
  app.use(rateLimit({
    windowMs: 60 * 60 * 1000,
    limit: Number(LIMIT),
    keyGenerator: (req) => req.user,
    skipFailedRequests: true,
    requestWasSuccessful: (req, res) => res.statusCode >= 200 && res.statusCode < 300,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    store: new RedisStore({ sendCommand: (...args) => client.sendCommand(args) }),
  }))
  app.use(createProxyMiddleware({ target: UPSTREAM, agent: new http.Agent({ keepAlive: true, maxSockets: Infinity, maxFreeSockets: 1024 }), xfwd: true }))
  const [host, port] = ADDRESS.split(':')
  app.listen(Number(port), host)
}

main()
