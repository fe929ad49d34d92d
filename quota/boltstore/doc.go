// Package boltstore is a quota store in one file on disk, for a gateway that runs alone. There
// is no server to run, and nothing is lost in a crash. Several gateways share their quotas in
// Redis, see package redisstore.
//
//	store, err := boltstore.Open("./data", boltstore.Options{Calendar: calendar})
//
// [Store] implements quota.Store, whose contract applies.
//
// # Where state lives
//
// Counts, grants, overrides and the audit log are in the file usage.db, see file.go for its
// layout. Holds are in memory and end with the process, as do the requests that hold. So do the rests
// of requests that are settled in two steps. The token buckets of attempts are in memory as well.
//
// The counts of accounts for which requests come in are also cached in memory, see cache.go. Most
// requests look only one key up in the file, to find damage.
//
// # Writes
//
// A commit or a change returns when it is on disk: in the log usage.db-log, which has what was written since usage.db was
// last committed, at most a second ago (see package boltfile). Those that arrive at the same time share one
// write, see writer.go. A hold that is being counted carries the number of the write that counts
// it, so that a reader sees its unit either as held or as used, never as both or as neither, see
// hold.go.
package boltstore
