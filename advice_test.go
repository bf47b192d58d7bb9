// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// advised are all texts that users read: documents, examples, and the help and
// errors in the code.
func advised(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "e2e" || path == "tools" || path == "bin" || path != "." && strings.HasPrefix(path, ".")):
			return fs.SkipDir
		case d.IsDir() || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		switch filepath.Ext(path) {
		case ".md", ".go", ".sh", ".hcl", ".tpl":
			text, err := os.ReadFile(path)
			texts[path] = string(text)
			return err
		default:
			return nil
		}
	})
	require.NoError(t, err)
	return texts
}

// cronExample is a cron line in backticks or quotes.
var cronExample = regexp.MustCompile("[`'\"]((?:CRON_TZ=[\\w/+-]+ )?(?:[0-9*/,-]+ ){3}[\\w*/,-]+ [\\w*/,-]+)[`'\"]")

func TestEveryCronLineThatWeAdviseIsTaken(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.scheduled("hr", "skip_initial_rotation", true)
	found := 0
	for path, text := range advised(t) {
		for _, example := range cronExample.FindAllStringSubmatch(text, -1) {
			found++
			if strings.HasPrefix(path, filepath.Join("internal", "crontab")) {
				continue // shows what lines mean there, and tests its own advice
			}
			resp := e.write("connectors/hr", "rotation_schedule", example[1])
			require.NotEmpty(t, resp.Data["next_rotation"], "%s: %s", path, example[1])
		}
	}
	require.Greater(t, found, 4, "the examples are found")
}

// fieldExample is a field with a value, as users are told to write it.
var fieldExample = regexp.MustCompile(`\b(rotation_period|grace_period|cooldown|ttl|max_ttl|check_period|drift_check_period|request_timeout)=([0-9]+[smhd]?)\b`)

func TestEveryDurationThatWeAdviseIsTaken(t *testing.T) {
	t.Parallel()
	e := configured(t)
	e.bindDecoy("bait", c1test.KindAccessToken)
	e.scheduled("hr", "skip_initial_rotation", true, "rotation_period", "9000h")
	crm, other := e.c1.NewConnector("crm"), e.c1.NewConnector("other")
	e.must(logical.CreateOperation, "connectors/crm", fields("app_id", crm.AppID, "connector_id", crm.ConnectorID, "rotate_on", "schedule",
		"skip_initial_rotation", true, "rotation_period", "9000h")) // of its own, since a short period bounds grace_period
	e.must(logical.CreateOperation, "connectors/leased", fields("app_id", other.AppID, "connector_id", other.ConnectorID, "rotate_on", "read"))
	paths := map[string]string{
		"rotation_period": "connectors/hr", "grace_period": "connectors/crm", "cooldown": "connectors/leased", "ttl": "connectors/leased",
		"max_ttl": "connectors/leased", "check_period": "decoys/bait", "drift_check_period": "config", "request_timeout": "config",
	}
	found := 0
	for _, text := range advised(t) {
		for _, example := range fieldExample.FindAllStringSubmatch(text, -1) {
			found++
			e.write(paths[example[1]], example[1], example[2])
		}
	}
	require.Greater(t, found, 1, "the examples are found")
}
