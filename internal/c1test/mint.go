// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"time"
)

// secretPrefix starts every client secret that carries a key.
const secretPrefix = "secret-token:conductorone.com:v1:"

var (
	adjectives = []string{"brave", "calm", "clever", "curious", "eager", "gentle", "quiet", "rapid", "strange", "witty"}
	animals    = []string{"badger", "falcon", "gecko", "heron", "hydra", "lynx", "marmot", "otter", "puffin", "walrus"}
)

// randomBytes returns n random bytes; crypto/rand never fails since Go 1.24.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func randomInt(below int) int {
	return int(binary.BigEndian.Uint32(randomBytes(4)) % uint32(below)) //nolint:gosec // below is small and positive
}

// idLength is the length of an ID in characters.
const idLength = 27

// newID returns an ID like C1's: a 27-character KSUID, seconds first, base62.
func newID(now time.Time) string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	const ksuidEpoch = 1_400_000_000
	raw := binary.BigEndian.AppendUint32(nil, uint32(now.Unix()-ksuidEpoch)) //nolint:gosec // as KSUID defines it
	raw = append(raw, randomBytes(16)...)

	n, base, digit := new(big.Int).SetBytes(raw), big.NewInt(62), new(big.Int)
	id := make([]byte, idLength)
	for i := len(id) - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		id[i] = alphabet[digit.Int64()]
	}
	return string(id)
}

// newClientID returns a client ID like strange-hydra-68836@acme.conductor.one/pcc.
func newClientID(host, use string) string {
	return fmt.Sprintf("%s-%s-%05d@%s/%s", adjectives[randomInt(len(adjectives))],
		animals[randomInt(len(animals))], randomInt(100_000), host, use)
}

// newAccessToken returns an opaque bearer token.
func newAccessToken() string { return base64.RawURLEncoding.EncodeToString(randomBytes(32)) }

// secret is a client secret and what the emulator keeps to recognise it.
type secret struct {
	value       string
	key         ed25519.PublicKey // nil for a plain secret, which cannot sign
	fingerprint string
}

func (e *Emulator) newPlainSecret() secret {
	value := base64.RawURLEncoding.EncodeToString(randomBytes(32))
	e.remember(value)
	return secret{value: value, fingerprint: fingerprint(value)}
}

// newKeySecret mints a secret that carries an Ed25519 private key.
func (e *Emulator) newKeySecret() secret {
	seed := randomBytes(ed25519.SeedSize)
	public, _ := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	jwk, _ := json.Marshal(map[string]string{ // a map of strings always marshals
		"kty": "OKP", "crv": "Ed25519",
		"x": base64.RawURLEncoding.EncodeToString(public),
		"d": base64.RawURLEncoding.EncodeToString(seed),
	})
	payload := base64.RawURLEncoding.EncodeToString(jwk)
	value := secretPrefix + payload
	e.remember(value, payload, base64.RawURLEncoding.EncodeToString(seed))
	return secret{value: value, key: public, fingerprint: fingerprint(value)}
}

// fingerprint is C1's materialFingerprintSha256: the hex SHA-256 of a secret string.
func fingerprint(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}
