// Package jwtrules holds the rules for the settings of token verification: which
// algorithms there are, which key each of them needs, what a good key is, and how the
// path of a claim is written. Package config checks a configuration with them and package
// jwtauth verifies tokens with them, so that both follow the same rules.
//
// Errors say what the setting must be, to be put after the name of the setting. They show
// nothing of a secret or a key file.
//
// The package imports no other package of this module.
package jwtrules
