// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command batonrunner stands in for C1's baton-runner, which is published as a binary
// only. It reads the same config.yaml, as C1's reference describes it, makes the
// requests to Vault that follow from it, and starts the connectors with what it was
// answered. What the reference leaves open is done in the way that is harder on
// whoever runs it: a signal that ends it reaches no connector, and its secrets are
// read once, when it starts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/hashicorp/vault/api"
	"go.yaml.in/yaml/v3"
)

func main() {
	if err := run(context.Background()); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "batonrunner:", err)
		os.Exit(1)
	}
}

// config is config.yaml, with the one backend that is Vault.
type config struct {
	LogLevel   string      `yaml:"log-level"`
	Connectors []connector `yaml:"connectors"`
	Secrets    struct {
		Vault vault `yaml:"vault"`
	} `yaml:"secrets"`
}

type connector struct {
	Name   string `yaml:"name"`
	Path   string `yaml:"path"`
	Config struct {
		Env     map[string]string `yaml:"env"`
		EnvFrom struct {
			Secrets map[string]string `yaml:"secrets"` // NAME: secretname:FIELD
		} `yaml:"envFrom"`
	} `yaml:"config"`
}

type vault struct {
	URL         string `yaml:"url"`
	Mount       string `yaml:"mount"`
	KVAPI       int    `yaml:"kvapi"`
	CredsFile   string `yaml:"credsfile"`
	credentials `yaml:",inline"`
	Secrets     map[string]string `yaml:"secrets"` // secretname: path below the mount
}

// credentials stand in credsfile, or beside it.
type credentials struct {
	Token    string `yaml:"token"`
	Username string `yaml:"username"`
	Password string `yaml:"password"`
}

func run(ctx context.Context) error {
	file := flag.String("c", "config.yaml", "configuration `file`")
	flag.Parse()
	var c config
	if err := decode(*file, &c); err != nil {
		return err
	}
	secrets, err := c.Secrets.Vault.read(ctx)
	if err != nil {
		return err
	}
	ended := make(chan error)
	for _, connector := range c.Connectors {
		cmd, err := connector.command(ctx, secrets)
		if err != nil {
			return fmt.Errorf("connector %s: %w", connector.Name, err)
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("connector %s: %w", connector.Name, err)
		}
		go func() { ended <- fmt.Errorf("connector %s ended: %w", connector.Name, errors.Join(cmd.Wait(), io.EOF)) }()
	}
	return <-ended
}

func decode(file string, into any) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	decoder := yaml.NewDecoder(f)
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// read returns the fields of each secret by its name.
func (v vault) read(ctx context.Context) (map[string]map[string]any, error) {
	client, err := v.login(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]map[string]any{}
	for name, path := range v.Secrets {
		var secret *api.KVSecret
		switch v.KVAPI {
		case 1:
			secret, err = client.KVv1(v.Mount).Get(ctx, path)
		case 2:
			secret, err = client.KVv2(v.Mount).Get(ctx, path)
		default:
			return nil, fmt.Errorf("kvapi is %d", v.KVAPI)
		}
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", name, err)
		}
		found[name] = secret.Data
	}
	return found, nil
}

// login returns a client that has a token: that of the file, or the one that comes
// next in the order which the reference gives.
func (v vault) login(ctx context.Context) (*api.Client, error) {
	settings := api.DefaultConfig()
	settings.Address = v.URL
	client, err := api.NewClient(settings)
	if err != nil {
		return nil, err
	}
	with := v.credentials
	if v.CredsFile != "" {
		with = credentials{}
		if err := decode(v.CredsFile, &with); err != nil {
			return nil, err
		}
	}
	if with.Token == "" {
		login, err := client.Logical().WriteWithContext(ctx, "auth/userpass/login/"+url.PathEscape(with.Username), map[string]any{"password": with.Password})
		if err != nil {
			return nil, err
		}
		with.Token = login.Auth.ClientToken
	}
	client.SetToken(with.Token)
	return client, nil
}

// command is the connector with its environment.
func (c connector) command(ctx context.Context, secrets map[string]map[string]any) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, c.Path)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = os.Environ()
	for name, value := range c.Config.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	for name, reference := range c.Config.EnvFrom.Secrets {
		secret, field, _ := strings.Cut(reference, ":")
		value, ok := secrets[secret][field].(string)
		if !ok {
			return nil, fmt.Errorf("%s: no field %s in secret %s", name, field, secret)
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd, nil
}
