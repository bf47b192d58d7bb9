// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"crypto/x509"
	"encoding/pem"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNewRefusesBadOptionsAndSendsNothing(t *testing.T) {
	t.Parallel()
	set := func(url string) func(*Options) { return func(o *Options) { o.URL = url } }
	for want, edit := range map[string]func(*Options){
		"no URL":           set(""),
		"https://":         set("http://acme.conductor.one"),
		"credentials":      set("https://user:pw@acme.conductor.one"),
		"have a path":      set("https://acme.conductor.one/api"),
		"have a query":     set("https://acme.conductor.one?x=1"),
		"have a fragment":  set("https://acme.conductor.one#"),
		"no host":          set("https://"),
		"cannot be parsed": set("https://user:pa%zz@x"),
		"DNS name":         set("https://acme_conductor.one"),
		"request rate":     func(o *Options) { o.MaxRequestsPerSecond = math.NaN() },
		"no identity":      func(o *Options) { o.ClientID = "" },
		"no use":           func(o *Options) { o.ClientID = "a@b" },
		"secret is empty":  func(o *Options) { o.ClientSecret = "" },
		"excludes":         func(o *Options) { o.AccessToken = "tok" },
		"no bearer token":  withBearer("tok\r\nX: y"),
		"no secret: give":  func(o *Options) { o.ClientID = "trust@acme.conductor.one/wfe" },
		"identity tokens exclude a client secret": func(o *Options) {
			withFederation(nil)(o)
			o.ClientSecret = "pw"
		},
		"access token excludes identity tokens": func(o *Options) {
			withFederation(nil)(o)
			withBearer("tok")(o)
		},
		"federation trust only": func(o *Options) {
			withFederation(nil)(o)
			o.ClientID = testClientID
		},
		"there are none": func(o *Options) { o.CACertPEM, o.CACertOnly = " \n", true },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			f := &fakeC1{}
			o := Options{URL: "https://acme.conductor.one", ClientID: testClientID, ClientSecret: testPassword, Transport: f}
			edit(&o)
			_, err := New(o)
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "pw")
			require.Zero(t, f.asked+f.mints)
		})
	}
}

func TestOwnCAAloneShutsTheSystemsRootsOut(t *testing.T) {
	t.Parallel()
	s, _ := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"userId":"u"}`)) })
	pemText := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	alone := x509.NewCertPool()
	alone.AddCert(s.Certificate())
	for range 2 { // also when the pool of the other kind was made last
		both, err := parseRoots(pemText, false)
		require.NoError(t, err)
		only, err := parseRoots(pemText, true)
		require.NoError(t, err)
		require.True(t, only.Equal(alone))
		system, err := x509.SystemCertPool()
		require.NoError(t, err)
		system.AddCert(s.Certificate())
		require.True(t, both.Equal(system))
	}
	c, err := New(Options{URL: s.URL, AccessToken: "tok", CACertPEM: pemText, CACertOnly: true})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	_, err = c.Introspect(t.Context())
	require.NoError(t, err)
}

func TestNewTakesTheShortestOptions(t *testing.T) {
	t.Parallel()
	c, err := New(Options{URL: "https://ACME.conductor.one/", AccessToken: "tok"})
	require.NoError(t, err)
	require.Equal(t, "https://acme.conductor.one", c.base)
	require.Equal(t, defaultRequestTimeout, c.timeout)
	require.Equal(t, Health{Breaker: "closed"}, c.Health())
	c.Close()
}

func TestOwnCAIsAddedToTheSystems(t *testing.T) {
	t.Parallel()
	s, _ := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"userId":"u"}`)) })
	o := Options{URL: s.URL, AccessToken: "tok"}

	untrusting, err := New(o)
	require.NoError(t, err)
	_, err = untrusting.Introspect(t.Context())
	e := failedFor(t, err, ReasonNotSent)
	require.Contains(t, e.Message, "not trusted")

	o.CACertPEM = "\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})) + "\n"
	trusting, err := New(o)
	require.NoError(t, err)
	who, err := trusting.Introspect(t.Context())
	require.NoError(t, err)
	require.Equal(t, "u", who.UserID)
	trusting.Close()

	o.CACertPEM = strings.Repeat(o.CACertPEM, 2)
	_, err = New(o)
	require.NoError(t, err, "a bundle of several is fine")
}
