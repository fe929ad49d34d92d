// Package trust decides which headers of a request are believed, and tells the upstream
// what is known about the client.
//
//   - [Proxies] finds the client's address in the X-Forwarded-For of the operator's own
//     proxies, and its result, an [Origin], sets the headers that tell the upstream.
//   - [UntrustedHeaders] removes the headers that a server believes and no client may set.
//   - [Origin.RequestID] finds the id that leads through several logs.
//
// A header is recognised in every spelling that some server takes for the same name.
//
// The package imports no other package of this module.
package trust
