// Package billing sends bills to a billing service: OpenMeter, Stripe, Lago, or any that takes CloudEvents.
//
//	event.go        bills, and the events that are made of them
//	receiver.go     what the receivers have in common: addresses, answers
//	cloudevents.go  OpenMeter, and services that take CloudEvents
//	stripe.go       Stripe's meter events
//	lago.go         Lago's events
//	sender.go       batches, workers, retries
//	post.go         one batch: sends it until it is settled
//	faults.go       which events were refused
//	progress.go     how far a run is, on a terminal
//	pace.go         the rate of requests, and pauses that a receiver asks for
//
// An event has the same id each time that it is sent, and all receivers recognise it. So whatever becomes
// of a run, the next one may send everything again that was not noted as delivered.
package billing
