package jwtauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/MicahParks/jwkset"

	"metergate/proxy/jwtauth/jwtrules"
)

// parsePEMTexts returns the keys of a JSON object whose members are PEM texts by their kids, as
// parseKeySet does for a JSON Web Key Set. A text is what public_key_file may be. Its key is for
// all algorithms that it fits: the form has no place for one.
func parsePEMTexts(text []byte) (keys []jwkset.JWK, unusable []unusableKey, err error) {
	object, err := splitObject(text)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range object {
		key, err := parsePEMText(m.name, m.value)
		if err != nil {
			unusable = append(unusable, unusableKey{m.name[:min(len(m.name), maxKeyIDBytes)], err})
			continue
		}
		keys = append(keys, key)
	}
	return keys, unusable, nil
}

// A member is one of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// splitObject returns the members of a JSON object. It stops at the first key too many.
func splitObject(text []byte) (members []member, err error) {
	if !validText(text) {
		return nil, fmt.Errorf("the response is not JSON: %w", errUnicode)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("the response is not a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		name, err := dec.Token()
		var m member
		if err == nil {
			m.name, _ = name.(string)
			err = dec.Decode(&m.value)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("the response is not a JSON object: %w", decoderError(err))
		case seen[m.name]:
			return nil, fmt.Errorf("the response is ambiguous: %w", errDuplicate)
		case len(members) == maxKeys:
			return nil, errTooManyKeys
		case m.name == "keys" && m.value[0] == '[':
			return nil, errors.New("the response is a JSON Web Key Set; configure it as jwks_url")
		}
		seen[m.name] = true
		members = append(members, m)
	}
	return members, endOfObject(dec)
}

// parsePEMText reads one key. The error says why it cannot verify tokens.
func parsePEMText(kid string, value json.RawMessage) (key jwkset.JWK, err error) {
	var text string
	switch {
	case kid == "" || len(kid) > maxKeyIDBytes:
		return key, fmt.Errorf("its name must have 1 to %d bytes", maxKeyIDBytes)
	case len(value) > maxKeyBytes:
		return key, fmt.Errorf("it has %d bytes; it may have at most %d", len(value), maxKeyBytes)
	case value[0] != '"' || json.Unmarshal(value, &text) != nil:
		return key, errors.New("it is not a PEM text")
	}
	public, err := jwtrules.ParsePublicKey([]byte(text))
	if err != nil {
		return key, err
	}
	m, err := keyParameters(public)
	if err != nil {
		return key, err
	}
	m.KID, m.ALG = kid, ""
	return jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipKeyOps: true})
}
