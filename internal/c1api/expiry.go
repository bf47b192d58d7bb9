// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// latestExpiry is the last moment that RFC 3339 can write.
var latestExpiry = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

// TokenExpiry returns when an access token ends that is a JWT: its exp (RFC 7519,
// section 4.1.4), and false when it is no JWT or says nothing that can be believed.
// The signature is not checked, since only C1 can: the answer is good for telling
// people, not for trusting the token.
func TokenExpiry(accessToken string) (time.Time, bool) {
	if len(accessToken) > maxSecretLength {
		return time.Time{}, false
	}
	parsed, err := jwt.ParseSigned(accessToken, []jose.SignatureAlgorithm{jose.EdDSA})
	var other *jose.ErrUnexpectedSignatureAlgorithm
	if errors.As(err, &other) { // any algorithm will do, also one that go-jose cannot check
		parsed, err = jwt.ParseSigned(accessToken, []jose.SignatureAlgorithm{other.Got})
	}
	if err != nil {
		return time.Time{}, false
	}
	var claims jwt.Claims
	if parsed.UnsafeClaimsWithoutVerification(&claims) != nil || claims.Expiry == nil {
		return time.Time{}, false
	}
	end := claims.Expiry.Time()
	if end.Unix() <= 0 || end.After(latestExpiry) {
		return time.Time{}, false
	}
	return end.UTC(), true
}
