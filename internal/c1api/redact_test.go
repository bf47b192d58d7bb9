// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// hiddenSecret is in each place of a secret in these tests.
const hiddenSecret = "hidden-secret-value"

// exportedStructs are all of the package's, each with its secrets.
func exportedStructs(t *testing.T) map[string]any {
	t.Helper()
	material := DecoyMaterial{
		ClientCredential: &ClientCredentialMaterial{ClientID: "cid", ClientSecret: hiddenSecret},
		AccessToken:      &AccessTokenMaterial{AccessToken: hiddenSecret},
	}
	cred := ConnectorCredential{ID: "cred1", ClientSecret: hiddenSecret}
	client, _ := newClient(t, &fakeC1{token: always(tokenReply(hiddenSecret, 600))}, withKey(hiddenSecret))
	_, err := client.Introspect(t.Context())
	require.NoError(t, err)
	return map[string]any{
		"Options":                    Options{ClientID: testClientID, ClientSecret: hiddenSecret, AccessToken: hiddenSecret, Transport: &fakeC1{forms: []string{hiddenSecret}}},
		"Client":                     client,
		"ConnectorCredential":        cred,
		"DecoyMaterial":              material,
		"ClientCredentialMaterial":   *material.ClientCredential,
		"AccessTokenMaterial":        *material.AccessToken,
		"WorkloadFederationMaterial": WorkloadFederationMaterial{TrustID: "trust1"},
		"Existence":                  Existence{Credential: &cred},
		"Connector":                  Connector{ID: "conn"},
		"Decoy":                      Decoy{ID: "decoy1"},
		"Error":                      Error{Op: "op"},
		"Health":                     client.Health(),
		"Exchange":                   Exchange{Operation: opToken},
		"Introspection":              Introspection{UserID: "user1"},
		"Owner":                      testPrincipal,
		"OwnCredential":              OwnCredential{ID: "cred1"},
		"NewCredential":              NewCredential{DisplayName: "d"},
	}
}

func TestNoTypePrintsASecret(t *testing.T) {
	t.Parallel()
	all := exportedStructs(t)
	require.ElementsMatch(t, namesOfStructs(t), slices.Collect(maps.Keys(all)), "a new type belongs into this test")

	client := all["Client"].(*Client)
	p := newProver(true)
	_, err := p.signer()
	require.NoError(t, err)
	all["tokenSource"], all["prover"] = client.tokens, p
	all["token"], all["minted"] = client.tokens.usable(), minted{token: client.tokens.usable()}
	all["settings"] = &settings{}
	all["answer"] = answer{body: []byte(hiddenSecret)}
	all["object"], _ = parseObject([]byte(`{"clientSecret":"` + hiddenSecret + `"}`))
	all["purpose"] = purpose{token: hiddenSecret}
	for name, value := range all {
		pointer := reflect.New(reflect.TypeOf(value))
		pointer.Elem().Set(reflect.ValueOf(value))
		for _, form := range []any{value, pointer.Interface(), []any{value}, map[string]any{"x": value}, struct{ X any }{value}} {
			for _, text := range printed(form) {
				for _, secret := range []string{hiddenSecret, hex.EncodeToString([]byte(hiddenSecret)), "104 105 100 100", "68 69 64 64"} {
					require.NotContains(t, strings.ToLower(text), secret, name)
				}
			}
		}
	}
}

// printed is a value as every careless line of code would show it.
func printed(value any) []string {
	var all []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%10.3v"} {
		all = append(all, fmt.Sprintf(verb, value))
	}
	logged := &syncBuffer{}
	for _, asJSON := range []bool{true, false} {
		hclog.New(&hclog.LoggerOptions{Output: logged, JSONFormat: asJSON}).Info("careless", "value", value)
	}
	text, err := json.Marshal(value)
	return append(all, fmt.Sprint(value), fmt.Sprintln(value), fmt.Errorf("careless: %v", value).Error(), logged.String(), string(text), fmt.Sprint(err))
}

func TestWhatIsNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	require.Equal(t, "ConnectorCredential{ID:cred1 ClientID:cid ClientSecret:[redacted]}",
		fmt.Sprint(&ConnectorCredential{ID: "cred1", ClientID: "cid", ClientSecret: "x"}))
	require.Equal(t, "Options{URL:https://acme.conductor.one ClientID:"+testTrust+" IdentityToken:set DPoP:true}",
		fmt.Sprintf("%+v", Options{URL: "https://acme.conductor.one", ClientID: testTrust, DPoP: true, IdentityToken: numbered()}))
	require.Equal(t, "DecoyMaterial{ClientCredential:ClientCredentialMaterial{ClientID:cid ClientSecret:[redacted]}}",
		fmt.Sprintf("%#v", DecoyMaterial{ClientCredential: &ClientCredentialMaterial{ClientID: "cid", ClientSecret: "x"}}))
	require.Equal(t, "AccessTokenMaterial{}", fmt.Sprint(AccessTokenMaterial{}))
	require.Equal(t, "<nil>", fmt.Sprint((*ConnectorCredential)(nil)))
	require.Equal(t, "<nil>", fmt.Sprint((*Client)(nil)))
	c, _ := newClient(t, &fakeC1{})
	require.Equal(t, "Client{https://acme.conductor.one}", fmt.Sprintf("%+v", c))
	require.Contains(t, fmt.Sprintf("%T %p", c, c), "*c1api.Client 0x")
}

// A field whose name says that it holds a secret is marked as one.
func TestEveryFieldWithASecretIsMarked(t *testing.T) {
	t.Parallel()
	secretive := regexp.MustCompile(`(?i)(secret|token|password|key)$`)
	for name, value := range exportedStructs(t) {
		of := reflect.TypeOf(value)
		for of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		for i := range of.NumField() {
			field := of.Field(i)
			if field.IsExported() && field.Type.Kind() == reflect.String && secretive.MatchString(field.Name) {
				require.Equal(t, "-", field.Tag.Get("json"), "%s.%s", name, field.Name)
				require.Implements(t, (*fmt.Formatter)(nil), value, name)
			}
		}
	}
}

// namesOfStructs are those of the package's exported struct types.
func namesOfStructs(t *testing.T) []string {
	t.Helper()
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file.Name(), nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && ast.IsExported(spec.Name.Name) {
				if _, ok := spec.Type.(*ast.StructType); ok {
					names = append(names, spec.Name.Name)
				}
			}
			return true
		})
	}
	return names
}
