// Package notify delivers the crossings that a store has recorded, see quota.Crossings, to a receiver: a
// webhook that understands Standard Webhooks (https://www.standardwebhooks.com).
//
//	s := notify.New(notify.Options{Store: store, StoreNow: backend.Now, Log: log})
//	s.SetReceiver(receiver) // again after each reload; nil: nothing is sent
//	defer s.Stop(ctx)
//
// # Who delivers
//
// All gateways do. Each claims accounts every second, and sends the crossings of an account one after the
// other. What is sent has left the store only after the receiver has accepted it: so an event arrives
// once or more often, always with the same id and the same body.
//
// # When the receiver fails
//
// An event that is not accepted stays in the store, and its account is put back for a time that doubles with
// each failure. Nothing of that is kept on disk: after a restart the time begins anew at some seconds.
// After 24 hours the event is given up.
//
// If several events in a row fail, whatever account they are of, the receiver is taken for dead, see
// [health]: one event after the other is tried, and the others wait where they are. So a dead
// receiver costs a request now and then, and no memory. An event that the receiver refuses for what it says, such
// as with 422, does not count: it waits alone.
package notify
