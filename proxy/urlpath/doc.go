// Package urlpath holds the rules for the paths and hosts of requests and of the
// patterns that route them. Package config checks routes with them and package proxy
// checks requests, so that both follow the same rules.
//
// # One path for each request
//
// When two servers read one path in two ways, a request can be counted as something
// else than it does: one server sees /api/status/..%2fanalyze and lets it through as a
// status call, the next one sees /api/analyze. The gateway therefore gives each request
// one path, the canonical one. The router matches this path, the store counts by its
// route, and the upstream gets it byte for byte.
//
//	/files/a%20b;v=1/   stays as it is
//	/files/%41%7e       becomes /files/A~: RFC 3986, section 6.2.2.2, calls them the same
//	/files/%c3%a4       becomes /files/%C3%A4: section 6.2.2.1
//	/files/a|b          becomes /files/a%7Cb, as package net/url writes it; browsers do not
//	/files/%2541        stays: decoding it twice would change its meaning
//	/files/../a         is refused, like everything else that some server rewrites
//
// Refusing is safer than repairing: a well-meaning client has no need for such a path,
// and RFC 9112, section 3.2, warns of the others.
//
// The package imports no other package of this module.
package urlpath
