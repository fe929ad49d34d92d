// Package resp encodes calls of Lua scripts and functions in Redis's protocol (RESP) and decodes their
// replies.
//
// go-redis can do both. But it boxes each argument, and a request to the gateway sends
// some thirty arguments to Redis twice, most of which are the same for all users of a
// plan. Here the arguments are bytes: those that repeat are encoded once and copied, and
// the buffers are used again. Decoding covers what the project's scripts return and
// nothing more.
//
// The package imports no other package of the project.
package resp
