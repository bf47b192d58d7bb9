// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// vsoReplayed is the release of hashicorp/vault-secrets-operator that the requests
// were read from. The comments of this file name the files in its repository.
const vsoReplayed = "1.4.1"

// vsoObjects is what an example says to the operator.
type vsoObjects struct {
	auth   vsoAuth
	secret vsoSecret
	kind   string // VaultDynamicSecret or VaultStaticSecret
}

type vsoAuth struct {
	Mount string `yaml:"mount"`
	JWT   struct {
		Role           string   `yaml:"role"`
		ServiceAccount string   `yaml:"serviceAccount"`
		Audiences      []string `yaml:"audiences"`
	} `yaml:"jwt"`
}

type vsoSecret struct {
	Type             string        `yaml:"type"`
	Mount            string        `yaml:"mount"`
	Path             string        `yaml:"path"`
	RefreshAfter     time.Duration `yaml:"refreshAfter"`
	AllowStaticCreds bool          `yaml:"allowStaticCreds"`
	Destination      struct {
		Name           string `yaml:"name"`
		Transformation struct {
			Excludes  []string `yaml:"excludes"`
			Templates map[string]struct {
				Text string `yaml:"text"`
			} `yaml:"templates"`
		} `yaml:"transformation"`
	} `yaml:"destination"`
	RolloutRestartTargets []struct {
		Kind string `yaml:"kind"`
		Name string `yaml:"name"`
	} `yaml:"rolloutRestartTargets"`
}

// vso makes the requests that the operator makes for one secret.
type vso struct {
	*deployed
	vsoObjects
	vault   *api.Client
	tainted bool
	retries backoff.BackOff   // after failures
	synced  map[string]string // what the Secret holds
	rotated int64             // last_vault_rotation of the last answer
}

// replayVaultSecretsOperator does what the operator does with an example, until the
// test ends.
func (d *deployed) replayVaultSecretsOperator(example string) {
	d.t.Helper()
	o := &vso{deployed: d, vsoObjects: d.readVSO(example)}
	o.vault = d.Client("")
	o.vault.SetMaxRetries(api.DefaultConfig().MaxRetries)
	o.vault.AddHeader("User-Agent", "vso/v"+vsoReplayed) // vault/client.go, init
	// controllers/vaultconnection_controller.go, Reconcile
	_, err := o.vault.Sys().SealStatus()
	require.NoError(d.t, err)

	ctx, stop := context.WithCancel(d.t.Context())
	var running sync.WaitGroup
	d.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	running.Go(func() {
		for {
			timer := time.NewTimer(o.reconcile(ctx, &running))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
		}
	})
}

func (d *deployed) readVSO(example string) vsoObjects {
	d.t.Helper()
	var found vsoObjects
	for _, document := range d.documents(example) {
		var o object
		require.NoError(d.t, yaml.Unmarshal([]byte(document), &o))
		var spec any
		switch o.Kind {
		case "VaultAuth":
			spec = &found.auth
		case "VaultDynamicSecret", "VaultStaticSecret":
			found.kind, spec = o.Kind, &found.secret
		default:
			continue
		}
		var body struct {
			Spec yaml.Node `yaml:"spec"`
		}
		require.NoError(d.t, yaml.Unmarshal([]byte(document), &body))
		require.NoError(d.t, body.Spec.Decode(spec))
	}
	require.NotEmpty(d.t, found.kind)
	return found
}

// reconcile reads once, and returns after how long the operator comes again.
func (o *vso) reconcile(ctx context.Context, running *sync.WaitGroup) time.Duration {
	if err := o.loggedIn(ctx, running); err != nil {
		return sooner(5 * time.Second) // controllers/common.go, requeueDurationOnError
	}
	sync := o.syncDynamic
	if o.kind == "VaultStaticSecret" {
		sync = o.syncStatic
	}
	again, err := sync(ctx)
	if err == nil {
		o.retries = nil
		return again
	}
	var refused *api.ResponseError
	o.tainted = errors.As(err, &refused) && refused.StatusCode == http.StatusForbidden
	if o.retries == nil { // main.go, backoffInitialInterval and backoffMaxInterval
		o.retries = backoff.NewExponentialBackOff(backoff.WithInitialInterval(5*time.Second),
			backoff.WithMaxInterval(time.Minute), backoff.WithMaxElapsedTime(0))
	}
	return o.retries.NextBackOff()
}

// loggedIn sees to it that there is a token: vault/client_factory.go, Get, and
// vault/client.go, Validate and Login. A token that a request was refused with is
// looked up before it is used again.
func (o *vso) loggedIn(ctx context.Context, running *sync.WaitGroup) error {
	if o.tainted {
		_, err := o.vault.Logical().ReadWithContext(ctx, "auth/token/lookup-self")
		if err != nil {
			o.vault.ClearToken()
		}
		o.tainted = false
	}
	if o.vault.Token() != "" {
		return nil
	}
	// credentials/vault/jwt.go, GetCreds, and helpers/serviceaccount.go, RequestSAToken
	token, err := o.cluster.token(ctx, o.namespace, o.auth.JWT.ServiceAccount, o.auth.JWT.Audiences...)
	if err != nil {
		return err
	}
	secret, err := o.vault.Logical().WriteWithContext(ctx, "auth/"+o.auth.Mount+"/login",
		map[string]any{"role": o.auth.JWT.Role, "jwt": token})
	if err != nil {
		return err
	}
	o.vault.SetToken(secret.Auth.ClientToken)
	if !secret.Auth.Renewable {
		return nil
	}
	// startLifetimeWatcher: the token is renewed at once, then by the library.
	renewed, err := o.vault.Logical().WriteWithContext(ctx, "auth/token/renew-self", nil)
	if err != nil {
		return err
	}
	watcher, err := o.vault.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: renewed})
	if err != nil {
		return err
	}
	go watcher.Start()
	running.Go(func() {
		<-ctx.Done()
		watcher.Stop()
	})
	return nil
}

// syncDynamic is controllers/vaultdynamicsecret_controller.go, syncSecret and
// computePostSyncHorizon: it comes again half a second after the ttl of the answer,
// and up to 5 % of three seconds later.
func (o *vso) syncDynamic(ctx context.Context) (again time.Duration, err error) {
	path := o.secret.Mount + "/" + o.secret.Path
	answer, err := o.read(ctx, path)
	if err != nil {
		return 0, err
	}
	if answer.Renewable || !o.secret.AllowStaticCreds {
		return 0, errors.New("only what has no lease is replayed")
	}
	said, err := staticCredsOf(answer)
	if err != nil {
		return 0, err
	}
	if o.rotated == said.rotated {
		if answer, said, err = o.awaitRotation(ctx, path); err != nil {
			return 0, err
		}
	}
	o.rotated = said.rotated
	changed, err := o.writeSecret(ctx, answer.Data)
	if err != nil {
		return 0, err
	}
	if changed {
		if err := o.restart(ctx); err != nil {
			return 0, err
		}
	}
	again = said.ttl + 500*time.Millisecond
	if said.ttl <= 0 {
		again = time.Second
	}
	return again + rand.N(150*time.Millisecond), nil
}

// awaitRotation reads once more when the last rotation is the one that is known, and
// for ten seconds more while the ttl says that the next one is near: awaitVaultSecretRotation,
// for a binding with a rotation_period.
func (o *vso) awaitRotation(ctx context.Context, path string) (answer *api.Secret, said staticCreds, err error) {
	err = backoff.Retry(func() error {
		if answer, err = o.read(ctx, path); err != nil {
			return err
		}
		if said, err = staticCredsOf(answer); err != nil {
			return err
		}
		if said.rotated == o.rotated && said.ttl <= 2*time.Second {
			return errors.New("near rotation")
		}
		return nil
	}, backoff.NewExponentialBackOff(backoff.WithMaxElapsedTime(10*time.Second), backoff.WithMaxInterval(2*time.Second)))
	return answer, said, err
}

// staticCreds is what the operator heeds of an answer: vaultStaticCredsMetaDataFromData.
type staticCreds struct {
	rotated int64
	ttl     time.Duration
}

func staticCredsOf(answer *api.Secret) (staticCreds, error) {
	last, _ := answer.Data["last_vault_rotation"].(string)
	rotated, err := time.Parse(time.RFC3339Nano, last)
	if err != nil {
		return staticCreds{}, err
	}
	numbers := map[string]int64{}
	for _, field := range []string{"rotation_period", "ttl"} {
		number, ok := answer.Data[field].(json.Number)
		if !ok {
			return staticCreds{}, fmt.Errorf("%s is no number", field)
		}
		if numbers[field], err = number.Int64(); err != nil {
			return staticCreds{}, err
		}
	}
	if numbers["rotation_period"] < 1 { // isStaticCreds
		return staticCreds{}, errors.New("the operator would never read again")
	}
	return staticCreds{rotated.Unix(), time.Duration(numbers["ttl"]) * time.Second}, nil
}

// syncStatic is controllers/vaultstaticsecret_controller.go, Reconcile: the first
// Secret restarts nothing.
func (o *vso) syncStatic(ctx context.Context) (again time.Duration, err error) {
	path := o.secret.Mount + "/" + o.secret.Path
	if o.secret.Type == "kv-v2" {
		path = o.secret.Mount + "/data/" + o.secret.Path // vault/requests.go, kvReadRequestV2
	}
	answer, err := o.read(ctx, path)
	if err != nil {
		return 0, err
	}
	data := answer.Data
	if o.secret.Type == "kv-v2" {
		data, _ = data["data"].(map[string]any)
	}
	first := o.synced == nil
	changed, err := o.writeSecret(ctx, data)
	if err != nil {
		return 0, err
	}
	if changed && !first {
		err = o.restart(ctx)
	}
	return sooner(o.secret.RefreshAfter), err
}

// sooner is 10 to 20 % less: controllers/common.go, computeHorizonWithJitter.
func sooner(d time.Duration) time.Duration { return d - d/10 - rand.N(d/10) }

func (o *vso) read(ctx context.Context, path string) (*api.Secret, error) {
	answer, err := o.vault.Logical().ReadWithContext(ctx, path)
	if err == nil && answer == nil {
		err = fmt.Errorf("%s has no answer", path)
	}
	return answer, err
}

// writeSecret writes what the transformation leaves of an answer, if it has changed.
// The operator compares HMACs: helpers/hmac.go.
func (o *vso) writeSecret(ctx context.Context, answer map[string]any) (changed bool, err error) {
	data, err := o.transform(answer)
	if err != nil || maps.Equal(data, o.synced) {
		return false, err
	}
	encoded := map[string]string{}
	for name, value := range data {
		encoded[name] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	raw, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": encoded,
		"metadata": map[string]any{"name": o.secret.Destination.Name, "namespace": o.namespace},
	})
	if err != nil {
		return false, err
	}
	path := o.secrets() + "/" + o.secret.Destination.Name + "?fieldManager=vso&force=true"
	if err := o.cluster.send(ctx, http.MethodPatch, path, asApply, raw, nil); err != nil {
		return false, err
	}
	o.synced = data
	return true, nil
}

// transform is helpers/secrets.go, as far as the examples use it.
func (o *vso) transform(answer map[string]any) (map[string]string, error) {
	transformation := o.secret.Destination.Transformation
	data := map[string]string{}
	for name, value := range answer {
		excluded := false
		for _, exclude := range transformation.Excludes {
			matched, err := regexp.MatchString(exclude, name)
			if err != nil {
				return nil, err
			}
			excluded = excluded || matched
		}
		if !excluded {
			data[name] = fmt.Sprint(value)
		}
	}
	get := func(secrets map[string]any, name string) any { return secrets[name] } // as sprig has it
	for name, source := range transformation.Templates {
		parsed, err := template.New(name).Funcs(template.FuncMap{"get": get}).Parse(source.Text)
		if err != nil {
			return nil, err
		}
		var text strings.Builder
		if err := parsed.Execute(&text, map[string]any{"Secrets": answer}); err != nil {
			return nil, err
		}
		data[name] = text.String()
	}
	return data, nil
}

// restart is helpers/rollout_restart.go.
func (o *vso) restart(ctx context.Context) error {
	for _, target := range o.secret.RolloutRestartTargets {
		if target.Kind != "Deployment" {
			return fmt.Errorf("restarting a %s is not replayed", target.Kind)
		}
		annotations := map[string]any{"vso.secrets.hashicorp.com/restartedAt": time.Now().Format(time.RFC3339)}
		patch := map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": annotations}}}}
		raw, err := json.Marshal(patch)
		if err != nil {
			return err
		}
		if err := o.cluster.send(ctx, http.MethodPatch, o.deployments()+"/"+target.Name, asMergePatch, raw, nil); err != nil {
			return err
		}
	}
	return nil
}
