// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package monitoring

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

func TestMain(m *testing.M) { vaulttest.Main(m) }

type object = map[string]any

const (
	examples = "../../examples/monitoring"
	guide    = "../../docs/monitoring.md"
	soon     = 2 * time.Minute
)

// scraper scrapes a mount by the configuration of the examples, with a token that may
// do what the policy of the examples says.
type scraper struct {
	client *http.Client
	url    string
	token  string
}

func newScraper(t *testing.T, e *vaulttest.Engine) *scraper {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(examples)))
	policy, err := os.ReadFile(filepath.Join(dir, "policy.hcl"))
	require.NoError(t, err)
	name := e.Mount + "-prometheus"
	require.NoError(t, e.Root.Sys().PutPolicy(name, strings.ReplaceAll(string(policy), `"c1/`, `"`+e.Mount+`/`)))
	made, err := e.Root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{name}, NoDefaultPolicy: true})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "vault-token"), []byte(made.Auth.ClientToken+"\n"), 0o600))

	// The test's server speaks HTTP, somewhere else.
	raw, err := os.ReadFile(filepath.Join(dir, "prometheus.yml"))
	require.NoError(t, err)
	text := strings.NewReplacer(
		"scheme: https", "scheme: http", "    tls_config:\n      ca_file: vault-ca.pem\n", "",
		"vault.example.com:8200", strings.TrimPrefix(e.Addr(), "http://"), "/v1/c1/", "/v1/"+e.Mount+"/",
	).Replace(string(raw))
	require.NotContains(t, text, "tls_config")
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	loaded, err := config.LoadFile(file, false, promslog.NewNopLogger())
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, "rules.yml")}, loaded.RuleFiles)
	job := loaded.ScrapeConfigs[0]
	client, err := promconfig.NewClientFromConfig(job.HTTPClientConfig, job.JobName)
	require.NoError(t, err)
	target := job.ServiceDiscoveryConfigs[0].(discovery.StaticConfig)[0].Targets[0]["__address__"]
	return &scraper{client: client, url: fmt.Sprintf("%s://%s%s", job.Scheme, target, job.MetricsPath), token: made.Auth.ClientToken}
}

func (s *scraper) get(t *testing.T) (status int, p *page) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, http.NoBody)
	require.NoError(t, err)
	res, err := s.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, &page{res.Header.Get("Content-Type"), body}
}

func (s *scraper) scrape(t *testing.T) *page {
	t.Helper()
	status, p := s.get(t)
	require.Equal(t, http.StatusOK, status, string(p.body))
	return p
}

// until scrapes until the page says what it should.
func (s *scraper) until(t *testing.T, ready func(*page) bool) *page {
	t.Helper()
	var p *page
	vaulttest.Eventually(t, soon, func() error {
		if p = s.scrape(t); !ready(p) {
			return fmt.Errorf("not yet:\n%s", p.body)
		}
		return nil
	})
	return p
}

func attention(t *testing.T, p *page, reason string) float64 {
	t.Helper()
	return p.value(t, "vault_c1_attention_targets", "reason", reason)
}

func TestAScrapeNeedsNoMoreThanOneRightAndSaysWhatStatusAndC1Say(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	s := newScraper(t, e)
	e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
	e.BindDecoy(e.Mount, "bait", e.Tenant.Decoy(c1test.KindConnectorClient), nil)
	for range 3 {
		e.MustRead("connector-creds/github")
	}
	e.MustWrite("decoy-creds/bait", object{"placement": "web-1"})
	p := s.scrape(t)

	problems, err := promlint.New(strings.NewReader(string(p.body))).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)

	status := e.MustRead("status").Data
	for name, field := range map[string]string{
		"bindings": "bindings", "bindings_ready": "ready", "rotating_targets": "rotating", "overdue_targets": "overdue", "token_mints_total": "token_mints",
	} {
		require.Equal(t, fmt.Sprint(status[field]), fmt.Sprint(p.value(t, "vault_c1_"+name)), name)
	}
	for _, reason := range []string{"ambiguous", "drifted", "failing", "retiring"} {
		require.Equal(t, fmt.Sprint(status[reason]), fmt.Sprint(attention(t, p, reason)), reason)
	}
	require.EqualValues(t, 1, p.value(t, "vault_c1_healthy"))
	require.EqualValues(t, 1, p.value(t, "vault_c1_info", "version", status["version"].(string)))

	// C1's own journal is the judge.
	require.EqualValues(t, 3, e.Tenant.Changes(c1test.OpRotateConnector))
	require.EqualValues(t, 3, p.value(t, "vault_c1_rotations_total", "kind", "connector", "reason", "read", "outcome", "issued"))
	require.EqualValues(t, e.Tenant.Changes(c1test.OpRotateDecoy),
		p.value(t, "vault_c1_rotations_total", "kind", "decoy", "reason", "write", "outcome", "issued"))
	require.EqualValues(t, e.Tenant.Requests(c1test.OpRotateConnector)+e.Tenant.Requests(c1test.OpRotateDecoy),
		p.value(t, "vault_c1_requests_total", "operation", "rotate", "code", "2xx"))
	require.EqualValues(t, 4, p.value(t, "vault_c1_request_duration_seconds_count", "operation", "rotate"))

	// By hand, as the guide says.
	stdout, stderr, code := e.CLIAs(s.token, "", "read", "-format=raw", e.Path("metrics"))
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "\nvault_c1_bindings 2\n")
	requireInGuide(t, "vault read -format=raw c1/metrics")

	// The token opens nothing else.
	other := e.Client(s.token).Logical()
	for _, path := range []string{"status", "config", "connectors/github", "connector-creds/github"} {
		_, err := other.Read(e.Path(path))
		require.ErrorContains(t, err, "403", path)
	}
	require.NoError(t, e.Root.Auth().Token().RevokeTree(s.token))
	refused, _ := s.get(t)
	require.Equal(t, http.StatusForbidden, refused)
}

func requireInGuide(t *testing.T, text string) {
	t.Helper()
	raw, err := os.ReadFile(guide)
	require.NoError(t, err)
	require.True(t, strings.Contains(string(raw), text), "the guide should say %s", text) // printing it all would help nobody
}

// broken brings about each state that needs a person, and returns what is scraped then.
func broken(t *testing.T, e *vaulttest.Engine, s *scraper) *page {
	t.Helper()
	lost, kept, dead := e.Tenant.NewConnector("lost"), e.Tenant.NewConnector("kept"), e.Tenant.NewConnector("dead")
	e.BindConnector(e.Mount, "lost", lost, nil)
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Object: lost.ConnectorID, DropAfter: true, Times: 1})
	_, err := e.Read("connector-creds/lost")
	require.Error(t, err)

	e.BindDecoy(e.Mount, "bait", e.Tenant.Decoy(c1test.KindConnectorClient), nil)
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateDecoy, WrongFingerprint: true, Times: 1})
	e.MustWrite("decoy-creds/bait", nil)

	e.BindConnector(e.Mount, "kept", kept, nil)
	lease := e.MustRead("connector-creds/kept").LeaseID
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRevokeConnectorCredential, Status: http.StatusForbidden})
	require.NoError(t, e.Root.Sys().Revoke(lease))

	e.BindConnector(e.Mount, "dead", dead, object{"rotate_on": "schedule", "rotation_schedule": "* * * * *"})
	e.Tenant.AddFault(c1test.Fault{Op: c1test.OpRotateConnector, Object: dead.ConnectorID, Status: http.StatusNotFound})
	return s.until(t, func(p *page) bool {
		for _, reason := range []string{"ambiguous", "drifted", "failing", "retiring"} {
			if attention(t, p, reason) != 1 {
				return false
			}
		}
		return true
	})
}

// unanswered counts the requests to C1 that got no answer.
func unanswered(t *testing.T, p *page) (n float64) {
	t.Helper()
	for _, s := range p.samples(t) {
		if s.labels.Get(model.MetricNameLabel) == "vault_c1_requests_total" && s.labels.Get("code") == "none" {
			n += s.value
		}
	}
	return n
}

// outage takes C1 away while more and more falls due. It returns what is scraped before,
// during it, and once C1 is back.
func outage(t *testing.T, e *vaulttest.Engine, s *scraper) (before *page, during []*page, after *page) {
	t.Helper()
	for i := range 12 { // each is due within a few seconds of the others
		name := fmt.Sprintf("late-%d", i)
		e.BindConnector(e.Mount, name, e.Tenant.NewConnector(name),
			object{"rotate_on": "schedule", "rotation_period": "1m", "skip_initial_rotation": true})
	}
	e.Tenant.SetDown(true)
	before = s.scrape(t) // from here on C1 serves nothing, and nobody knows it yet
	require.EqualValues(t, 1, before.value(t, "vault_c1_healthy"))
	waiting, asked := 0.0, 0.0
	for i := range 4 {
		p := s.until(t, func(p *page) bool {
			more := p.value(t, "vault_c1_overdue_targets") > waiting && p.value(t, "vault_c1_paused") == 1
			return more && (i < 3 || unanswered(t, p) > asked) // the next probe comes after some seconds
		})
		require.Greater(t, p.value(t, "vault_c1_overdue_oldest_seconds"), 10.0)
		waiting, asked = p.value(t, "vault_c1_overdue_targets"), unanswered(t, p)
		require.NotZero(t, asked)
		during = append(during, p)
	}
	e.Tenant.SetDown(false)
	return before, during, s.until(t, func(p *page) bool { return p.value(t, "vault_c1_healthy") == 1 })
}

// expiring has the mount log in with a credential that ends soon.
func expiring(t *testing.T, e *vaulttest.Engine, s *scraper, left time.Duration) *page {
	t.Helper()
	e.ConfigureAs(e.Mount, e.Tenant, e.Tenant.NewIdentity(c1test.ExpiresIn(left)), nil)
	return s.until(t, func(p *page) bool {
		return strings.Contains(string(p.body), "\nvault_c1_identity_expires_seconds ") &&
			p.value(t, "vault_c1_identity_expires_seconds") <= left.Seconds()
	})
}

func TestTheAlertsFireOnWhatReallyHappens(t *testing.T) {
	t.Parallel()
	file := filepath.Join(examples, "rules.yml")
	sick, away, aging := vaulttest.OnShared(t), vaulttest.OnShared(t), vaulttest.OnShared(t)
	sickly, distant, older := newScraper(t, sick), newScraper(t, away), newScraper(t, aging)
	tenDays, twoDays := expiring(t, aging, older, 10*24*time.Hour), expiring(t, aging, older, 2*24*time.Hour)
	attended := broken(t, sick, sickly)
	well, during, after := outage(t, away, distant)

	t.Run("all is well", func(t *testing.T) {
		t.Parallel()
		require.Empty(t, newReplay(t, file).lasts(26*time.Hour, well).firing())
	})
	t.Run("targets that need a person", func(t *testing.T) {
		t.Parallel()
		r := newReplay(t, file).lasts(time.Hour, well)
		require.Empty(t, r.lasts(9*time.Minute, attended).firing())
		require.Equal(t, []string{"VaultC1Ambiguous", "VaultC1Drifted", "VaultC1Failing"}, r.lasts(3*time.Minute, attended).firing())
		require.Equal(t, []string{"VaultC1NotHealthy", "VaultC1Ambiguous", "VaultC1Drifted", "VaultC1Failing"}, r.lasts(10*time.Minute, attended).firing())
		require.NotContains(t, r.lasts(23*time.Hour, attended).firing(), "VaultC1Retiring")
		require.Contains(t, r.lasts(time.Hour, attended).firing(), "VaultC1Retiring")
		require.Empty(t, r.lasts(2*time.Minute, well).firing())
	})
	t.Run("C1 is away", func(t *testing.T) {
		t.Parallel()
		r := newReplay(t, file).lasts(time.Hour, well)
		for _, p := range during {
			r.lasts(4*time.Minute, p)
		}
		require.Equal(t, []string{"VaultC1NotHealthy", "VaultC1OverdueGrows", "VaultC1Paused", "VaultC1NoAnswer"}, r.firing())
		require.Empty(t, r.lasts(5*time.Minute, after).firing())
	})
	t.Run("the mount's credential expires", func(t *testing.T) {
		t.Parallel()
		r := newReplay(t, file)
		require.Equal(t, []string{"VaultC1NotHealthy", "VaultC1IdentityExpires"}, r.lasts(20*time.Minute, tenDays).firing())
		require.Equal(t, []string{"VaultC1NotHealthy", "VaultC1IdentityExpires", "VaultC1IdentityExpiresNow"}, r.lasts(20*time.Minute, twoDays).firing())
	})
	t.Run("no figures", func(t *testing.T) {
		t.Parallel()
		r := newReplay(t, file).lasts(time.Hour, well)
		require.Equal(t, []string{"VaultC1ScrapeFails"}, r.lasts(10*time.Minute, nil).firing())
	})
	t.Run("the dashboard shows figures", func(t *testing.T) {
		t.Parallel()
		r := newReplay(t, file).lasts(10*time.Minute, well).lasts(10*time.Minute, during[0]).lasts(10*time.Minute, after)
		for _, expr := range dashboardQueries(t) {
			if strings.Contains(expr, "identity_expires") {
				continue // the mount's identity is one that does not
			}
			require.NotEmpty(t, r.ask(strings.ReplaceAll(expr, "$mount", "c1")), expr)
		}
	})
}

// dashboardQueries are the expressions of the panels, each of which has one.
func dashboardQueries(t *testing.T) (queries []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(examples, "dashboard.json"))
	require.NoError(t, err)
	var board struct {
		Title      string
		Templating struct {
			List []struct{ Name, Query string }
		}
		Panels []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ RefID, Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(raw, &board))
	require.NotEmpty(t, board.Title)
	require.Len(t, board.Templating.List, 2)
	seen := map[int]bool{}
	for _, panel := range board.Panels {
		require.False(t, seen[panel.ID], "the ID is there twice")
		seen[panel.ID] = true
		require.LessOrEqual(t, panel.GridPos.X+panel.GridPos.W, 24, panel.Title)
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			queries = append(queries, target.Expr)
		}
	}
	return queries
}

// The guide says of each alert what it means, and of each figure what it is.
func TestTheGuideKnowsEachAlertAndEachFigure(t *testing.T) {
	t.Parallel()
	e := vaulttest.OnShared(t)
	// Of C1's answers only those count that came since the client was built, which a write
	// of the configuration does anew.
	p := newScraper(t, e).until(t, func(p *page) bool {
		return strings.Contains(string(p.body), "\n# TYPE vault_c1_last_answer_timestamp_seconds ")
	})
	raw, err := os.ReadFile(guide)
	require.NoError(t, err)
	_, text, _ := strings.Cut(string(raw), "\n## Figures to watch\n")
	table, _, _ := strings.Cut(text, "\n| figure |")
	text, _, _ = strings.Cut(text, "\n## ")
	known := map[string]bool{}
	for _, rule := range parseRules(t, filepath.Join(examples, "rules.yml")).Groups[0].Rules {
		require.Regexp(t, "\n\\| [^|]*`"+rule.Alert+"`[^|]* \\|", table, "the guide should say what to do")
		known[rule.Alert] = true
	}
	for _, alert := range regexp.MustCompile(`\bVaultC1\w+`).FindAllString(text, -1) {
		require.True(t, known[alert], "%s is no alert", alert)
	}
	figures := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^# TYPE (\w+)`).FindAllStringSubmatch(string(p.body), -1) {
		require.Contains(t, text, "`"+line[1]+"`", "the guide should say what it is")
		figures[line[1]] = true
	}
	// These come with what they are about.
	figures["vault_c1_rotations_total"], figures["vault_c1_identity_expires_seconds"] = true, true
	require.Contains(t, text, "`vault_c1_rotations_total`")
	require.Contains(t, text, "`vault_c1_identity_expires_seconds`")
	for _, name := range regexp.MustCompile(`\bvault_c1_\w+`).FindAllString(text, -1) {
		require.True(t, figures[name], "there is no %s", name)
	}
}
