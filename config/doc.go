// Package config reads and checks the gateway's configuration, a YAML file.
//
// The types are the reference. Each field's comment says what the key does, and its tags
// hold the key, the default and the bounds; decode.go explains the tags. The JSON Schema for
// editors, gateway.schema.json, and the tables of docs/configuration.md are generated from
// both:
//
//	go generate ./config
//
// [Load] is strict. An unknown or repeated key, a wrong type, a name that is not defined
// and two routes that conflict are each an [Error] with file and line. All errors of a
// file are reported at once:
//
//	gateway.yaml:12: plans.free.limits[0].requests: must not be negative, got -1
//
// # Variables
//
// ${NAME} in a value is replaced by the environment variable NAME, which must be set.
// ${NAME:-default} is replaced by the default when NAME is not set or is empty; the default
// is plain text up to the first }. $$ stands for $. A $ that is followed by neither $ nor {
// stands for itself.
//
// Variables are replaced after the YAML has been parsed. A variable can hold a text, a
// number or a boolean, but never a key, a list or a second value. Inside { } and [ ], YAML
// requires quotes around "${NAME}"; a number in these quotes is still a number.
//
// # Secrets
//
// A field of type [Secret] with the key x can be given as x_file instead. Its value is then
// the content of that file, without the newline at the end. No error shows a secret or the
// value of a variable: messages quote what the configuration file says.
//
// # Units and paths
//
// Whole numbers are written in decimal, without a leading 0. Durations are written as
// 250ms, 1m30s, 400d or 1d12h, and sizes as 65536, 500KB or 32MiB. A relative path starts
// at the folder of the configuration file.
package config

//go:generate go test -count=1 -run ^TestGenerated -args -update
