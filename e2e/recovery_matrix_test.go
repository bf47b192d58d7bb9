// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

const (
	matrixFile = "../docs/kill-matrix.md"
	// updateEnv names the variable with which the test writes the file, instead
	// of comparing it.
	updateEnv = "C1_E2E_UPDATE"

	// longRequest is the request_timeout of the matrix: all that C1 holds must be
	// held at the same time, on a machine that is busy with it.
	longRequest = 10 * time.Second
	// matrixSettled is how long a scheduled binding may take to be healthy again.
	matrixSettled = 2*longRequest + 75*time.Second
)

// What a cell of the matrix says. Each must be the same in every run, whether
// Vault sends a dead plugin's requests again or not.
const (
	cellHealthy   = "healthy"
	cellHealed    = "recovers by itself"
	cellIssued    = "issued, end planned"
	cellAmbiguous = "ambiguous"
	cellWrong     = "WRONG"
)

// step is a point of a rotation at which everything above C1 dies.
type step struct {
	name string
	// atC1 is where C1 holds the request; empty if the death comes at a write.
	atC1 c1test.When
	// writes are held; those that exist for this cell and that the engine gets
	// to, since it may do one after the other.
	writes []heldWrite
	// answered: C1 has answered, so that the writes are those of the outcome.
	answered bool
	// commits: C1 carries the rotation out, before or after the death.
	commits bool
	// unwoken: what wakes the engine for this may not be stored. Nobody reads a
	// scheduled binding then before the engine should have come by itself; for a
	// leased one, of which C1 was not even asked, reading it is what wakes it.
	unwoken bool
}

type heldWrite struct {
	when   vaulttest.WriteWhen
	prefix string
}

const (
	targetKeys      = "target/"
	dueKeys         = "due/"
	fingerprintKeys = "fingerprint/"
)

func steps() []step {
	const before, after = vaulttest.BeforeWrite, vaulttest.AfterWrite
	return []step{
		{name: "nothing is stored", writes: []heldWrite{{before, targetKeys}}},
		{name: "the attempt is half stored", writes: []heldWrite{{before, dueKeys}, {after, targetKeys}}, unwoken: true},
		{name: "the attempt is stored, C1 is not asked", writes: []heldWrite{{after, targetKeys}}},
		{name: "C1 has the request and never carries it out", atC1: c1test.BeforeCommit},
		{name: "C1 has the request and carries it out after the death", atC1: c1test.BeforeCommit, commits: true},
		{name: "C1 has carried it out and not answered", atC1: c1test.AfterCommit, commits: true},
		{name: "C1 has answered, the outcome is not stored", writes: []heldWrite{{before, targetKeys}}, answered: true, commits: true},
		{
			name:   "the outcome is half stored",
			writes: []heldWrite{{before, fingerprintKeys}, {before, dueKeys}, {after, targetKeys}}, answered: true, commits: true,
		},
		{name: "the outcome is stored, the caller has no answer", writes: []heldWrite{{after, targetKeys}}, answered: true, commits: true},
	}
}

// column is what a rotation of the matrix is about.
type column struct {
	subject
	scheduled bool
}

func columns() []column {
	var all []column
	for _, what := range []subject{exclusiveConnector, overlappingConnector, decoyWithFingerprint, decoyWithoutSecret} {
		all = append(all, column{what, false}, column{what, true})
	}
	return all
}

func (c column) name() string {
	if c.scheduled {
		return c.subject.name + ", scheduled"
	}
	return c.subject.name + ", leased"
}

// victim is what is killed, and brought back if it does not come by itself.
type victim struct {
	name    string
	storage string
	revoked c1test.RevokedAnswer // how C1 shows what has ended
	kill    func(*testing.T, *vaulttest.Server)
	restart func(*vaulttest.Server)
}

func victims() []victim {
	return []victim{
		{
			"the plugin process", vaulttest.Inmem, c1test.RevokedNotFound,
			func(t *testing.T, s *vaulttest.Server) { s.KillPlugin(t) },
			func(*vaulttest.Server) {}, // Vault starts it
		},
		{
			"the Vault process", vaulttest.Raft, c1test.RevokedShown,
			func(_ *testing.T, s *vaulttest.Server) { s.Kill() },
			func(s *vaulttest.Server) { s.Restart() },
		},
	}
}

// TestRecoveryKillMatrix kills the plugin and the whole server at each step of a
// rotation, for each kind of target, leased and scheduled. Each cell has a mount
// and a tenant of its own; all cells of one victim are held at their steps, and
// die at once. No cell may look healthy with a credential that is dead at C1, at
// any time.
//
// What became of each is in docs/kill-matrix.md, which must be as this test
// finds it; C1_E2E_UPDATE=1 writes it.
func TestRecoveryKillMatrix(t *testing.T) {
	t.Parallel()
	var (
		mu     sync.Mutex
		tables = map[string][][]string{}
	)
	t.Run("killed", func(t *testing.T) {
		for _, v := range victims() {
			t.Run(v.name, func(t *testing.T) {
				t.Parallel()
				table := killAtEveryStep(t, v)
				mu.Lock()
				defer mu.Unlock()
				tables[v.name] = table
			})
		}
	})
	if t.Failed() || len(tables) != len(victims()) {
		return // one of them was not asked for, or says what is wrong
	}
	found := matrixText(tables)
	t.Logf("\n%s", found)
	if os.Getenv(updateEnv) != "" {
		require.NoError(t, os.WriteFile(matrixFile, []byte(found), 0o644))
		return
	}
	kept, err := os.ReadFile(matrixFile)
	require.NoError(t, err)
	require.Equal(t, string(kept), found, "%s is not what was found: run this test with %s=1", matrixFile, updateEnv)
}

// cell is one step of one column.
type cell struct {
	*site
	name      string
	scheduled bool
	step      step
	holds     []*vaulttest.WriteHold
	barrier   *c1test.Barrier
	answer    chan error // of the rotation that dies
	asked     int        // rotations that C1 was asked for by the time of the death
	gotIt     bool       // the caller was answered all the same: Vault had sent the request again
	wrong     error      // the first lie that was caught
	unread    time.Time  // until when nobody reads the binding
	settled   bool       // nothing is left to happen by itself
	result    string
}

func killAtEveryStep(t *testing.T, v victim) [][]string {
	gate := vaulttest.NewStorageGate(t)
	server := startServer(t, vaulttest.Options{Storage: v.storage, Gate: gate})
	cells := newCells(t, server)
	for _, c := range cells {
		c.c1.SetRevokedAnswer(v.revoked)
	}
	// What woke the engine for the rotations until now must not wake it for the
	// one that dies.
	untilLookedAt(t, time.Now())

	var atStorage, atC1 []*cell
	for _, c := range cells {
		if c.step.atC1 == "" {
			atStorage = append(atStorage, c)
		} else {
			atC1 = append(atC1, c)
		}
	}
	hold := func(c *cell) error { return c.hold(t.Context(), gate) }
	require.NoError(t, atOnce(atStorage, hold)) // for as long as it takes
	begun := time.Now()
	require.NoError(t, atOnce(atC1, hold)) // for the request's timeout
	for _, c := range cells {
		require.Empty(t, c.answer, "%s: was answered before the death", c)
		c.asked = c.site.asked()
	}
	v.kill(t, server)
	died := time.Now()
	t.Logf("killed %s after the first request that C1 holds had begun", died.Sub(begun).Round(time.Millisecond))
	for _, c := range cells {
		c.goOn()
	}
	for _, c := range cells {
		c.wait(t)
	}
	v.restart(server)
	watch(t, cells, died)

	var table [][]string
	for row := range steps() {
		var results []string
		for _, c := range cells[row*len(columns()) : (row+1)*len(columns())] {
			c.result = cellWrong
			t.Run(c.name, c.conclude)
			results = append(results, c.result)
		}
		table = append(table, results)
	}
	t.Logf("when %s is killed:\n%s", v.name, tableText(table))
	return table
}

// newCells makes all cells of one victim, in the order of the table, each with a
// credential that is good.
func newCells(t *testing.T, server *vaulttest.Server) []*cell {
	var subjects []subject
	var cells []*cell
	for _, s := range steps() {
		for _, what := range columns() {
			subjects = append(subjects, what.subject)
			cells = append(cells, &cell{
				name: s.name + "/" + what.name(), scheduled: what.scheduled, step: s, answer: make(chan error, 1),
			})
		}
	}
	sites := unboundSites(t, server, subjects, map[string]any{"request_timeout": longRequest.String()})
	for i, c := range cells {
		c.site = sites[i]
		switch {
		case c.scheduled:
			c.bind(map[string]any{"rotate_on": "schedule", "rotation_period": "24h"})
		case c.isDecoy():
			c.bind(map[string]any{"on_lease_end": "rotate"}) // else no end is planned
			c.mustVend(t)
		default:
			c.bind(nil)
			c.mustVend(t)
		}
	}
	return cells
}

// atOnce does the same for many cells, since each of them waits for others.
func atOnce(cells []*cell, do func(*cell) error) error {
	errs := make([]error, len(cells))
	var group sync.WaitGroup
	for i, c := range cells {
		group.Go(func() {
			if err := do(c); err != nil {
				errs[i] = fmt.Errorf("%s: %w", c, err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (c *cell) String() string { return c.name }

// hold begins a rotation and returns when it is where it is to die.
func (c *cell) hold(ctx context.Context, gate *vaulttest.StorageGate) error {
	switch {
	case c.step.atC1 != "":
		c.barrier = c.c1.Hold(c.rotateOp(), c.step.atC1)
	case c.step.answered:
		c.barrier = c.c1.Hold(c.rotateOp(), c1test.AfterCommit)
	default:
		c.holdWrites(gate)
	}
	go func() { c.answer <- c.rotate(ctx) }()
	if c.barrier != nil {
		if err := c.arrives(c.barrier.Arrived()); err != nil {
			return fmt.Errorf("at C1: %w", err)
		}
		if c.step.answered {
			c.holdWrites(gate)
			c.barrier.Release()
		}
	}
	if len(c.holds) == 0 {
		return nil
	}
	// Writes of one round come together or one after the other. In the latter
	// case those behind the first one that is held never come.
	if err := c.arrives(c.holds[0].Arrived()); err != nil {
		return fmt.Errorf("at its storage: %w", err)
	}
	together := time.After(2 * time.Second)
	for _, h := range c.holds[1:] {
		select {
		case <-h.Arrived():
		case <-together:
			return nil
		}
	}
	return nil
}

// holdWrites has the step's writes held, as far as this column makes them.
func (c *cell) holdWrites(gate *vaulttest.StorageGate) {
	object := c.decoyID
	if !c.isDecoy() {
		object = c.connector.ConnectorID
	}
	for _, w := range c.step.writes {
		switch {
		case w.prefix == fingerprintKeys && c.lastMinted().Fingerprint == "":
			continue
		case w.prefix == dueKeys && c.step.answered && !c.scheduled:
			continue
		}
		c.holds = append(c.holds, gate.Hold(w.when, w.prefix, object))
	}
}

// arrives waits for the rotation to come to where it is held.
func (c *cell) arrives(arrived <-chan struct{}) error {
	select {
	case <-arrived:
		return nil
	case err := <-c.answer:
		return fmt.Errorf("it was answered before it came there: %w", err)
	case <-time.After(30 * time.Second):
		return errors.New("it never came there")
	}
}

// rotate causes a rotation as its owner or an operator would.
func (c *cell) rotate(ctx context.Context) error {
	var err error
	switch {
	case !c.scheduled:
		_, err = c.vend(ctx)
	case c.semantics == c1test.Exclusive || c.decoy == decoyWithFingerprint.decoy:
		_, err = c.server.Root.Logical().WriteWithContext(ctx, c.bindingPath()+"/rotate", nil)
	default:
		_, err = c.server.Root.Logical().WriteWithContext(ctx, c.credsPath(), nil)
	}
	return err
}

// lastMinted is what C1 minted last.
func (c *cell) lastMinted() c1test.Entry {
	journal := c.c1.Journal()
	for _, entry := range slices.Backward(journal) {
		if entry.Op == c.rotateOp() {
			return entry
		}
	}
	return c1test.Entry{}
}

// goOn lets C1 and the storage go on after the death.
func (c *cell) goOn() {
	for _, h := range c.holds {
		h.Release()
	}
	if c.step.commits {
		c.barrier.Release()
	}
}

// wait takes the caller's answer, and waits until C1 has done what it does.
func (c *cell) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-c.answer:
		c.gotIt = err == nil
		if status := statusOf(err); status != 0 { // else there is no server any more
			require.Contains(t, []int{http.StatusConflict, http.StatusInternalServerError}, status, "%s: %v", c, err)
		}
	case <-time.After(100 * time.Second):
		t.Fatalf("%s: the caller was never answered", c)
	}
	if !c.step.commits {
		return
	}
	vaulttest.Eventually(t, 10*time.Second, func() error {
		if n := c.committed(); n < 2 {
			return fmt.Errorf("%s: C1 carried out %d rotations", c, n)
		}
		return nil
	})
}

// lookedAt is when the engine has looked at what was begun at a time: at the
// latest in the minute after it could be settled.
func lookedAt(begun time.Time) time.Time {
	return begun.Add(2 * longRequest).Truncate(time.Minute).Add(time.Minute + 5*time.Second)
}

func untilLookedAt(t *testing.T, begun time.Time) {
	t.Helper()
	eventuallyWithin(t, 2*time.Minute, func() error {
		if wait := time.Until(lookedAt(begun)); wait > 0 {
			return fmt.Errorf("%s left", wait)
		}
		return nil
	})
}

// watch looks at every cell, over and over, until the engine has looked at them
// too and nothing is left to happen by itself.
func watch(t *testing.T, cells []*cell, died time.Time) {
	t.Helper()
	var sites []*site
	for _, c := range cells {
		if c.step.unwoken && c.scheduled {
			c.unread = lookedAt(died)
		} else {
			sites = append(sites, c.site)
		}
	}
	untilBack(t, sites)
	back := time.Now()
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for settled := false; !settled || time.Now().Before(lookedAt(died)); <-ticker.C {
		settled = true
		for _, c := range cells {
			c.look(t)
			settled = settled && c.settled
		}
		if time.Since(back) > matrixSettled {
			return // conclude says what is left
		}
	}
}

// look notes a lie, and whether anything is left to happen by itself.
func (c *cell) look(t *testing.T) {
	t.Helper()
	if time.Now().Before(c.unread) {
		return
	}
	h := c.mustHealth(t)
	if !c.unread.IsZero() && h.State != "ready" {
		c.wrong = fmt.Errorf("the binding was still %s when somebody read it at last", h.State)
	}
	c.unread = time.Time{}
	if err := c.isTrue(t, h); err != nil && c.wrong == nil {
		// Two of these answers may come from before and after a change.
		again := c.mustHealth(t)
		if c.wrong = c.isTrue(t, again); c.wrong != nil {
			c.wrong = fmt.Errorf("at %s: %w", time.Now().Format(time.TimeOnly), c.wrong)
		}
	}
	c.settled = h.Rotating == 0 && (h.State == "ready" || !c.scheduled && settledAs(h, "ambiguous") == nil)
}

// isTrue reports a binding that looks healthy and is not.
func (c *cell) isTrue(t *testing.T, h health) error {
	t.Helper()
	if h.State != "ready" {
		if h.Healthy && h.Rotating == 0 && !c.step.unwoken {
			return fmt.Errorf("the binding is %s, and status is healthy", h.State)
		}
		return nil
	}
	if c.scheduled {
		material, err := read(t.Context(), c.server.Root, c.credsPath())
		if err != nil {
			return err
		}
		if err := c.worksAtC1(t, material); err != nil {
			return fmt.Errorf("the binding is ready, and the stored version %s: %w", material["version"], err)
		}
		return nil
	}
	r, err := c.current(t, h)
	if err != nil {
		return err
	}
	if r.Outcome != "issued" || r.EndedAt != "" {
		return nil // nobody has it, and the record says so
	}
	if !c.alive(vended{CredentialID: r.CredentialID, Fingerprint: r.Fingerprint}) || !c.mintedBy(r) {
		return fmt.Errorf("the binding is ready, and version %d, which was issued, is dead at C1", h.Version)
	}
	return nil
}

// current is the record of the current version.
func (c *cell) current(t *testing.T, h health) (record, error) {
	t.Helper()
	records := c.history(t)
	i := slices.IndexFunc(records, func(r record) bool { return r.Version == h.Version })
	if i < 0 {
		return record{}, fmt.Errorf("there is no record of version %d", h.Version)
	}
	return records[i], nil
}

// worksAtC1 uses what a scheduled binding has stored.
func (c *cell) worksAtC1(t *testing.T, material map[string]any) error {
	t.Helper()
	if !c.isDecoy() {
		return c.c1.Login(t.Context(), text(material["client_id"]), text(material["client_secret"]))
	}
	if shown := c.c1.DecoyFingerprint(c.decoyID); shown != text(material["fingerprint_sha256"]) {
		return errors.New("is not the decoy's current one")
	}
	r, err := c.current(t, health{Version: number(material["version"])})
	if err == nil && !c.mintedBy(r) {
		err = errors.New("is older than what C1 minted last")
	}
	return err
}

// mintedBy reports whether a decoy's current material is that of this record: it
// may have no fingerprint that would tell. Rotations of one cell are seconds
// apart.
func (c *cell) mintedBy(r record) bool {
	if !c.isDecoy() {
		return true
	}
	at := c.lastMinted().Time.UTC().Format(time.RFC3339)
	return r.StartedAt <= at && at <= r.FinishedAt
}

// conclude says what has become of a cell, and that it is no lie.
func (c *cell) conclude(t *testing.T) {
	require.NoError(t, c.wrong)
	h := c.mustHealth(t)
	require.True(t, c.settled, "state %s, rotating %d, problems %q", h.State, h.Rotating, h.Problems)
	records, outcomes := c.history(t), c.outcomes(t)
	open := slices.ContainsFunc(outcomes, func(o string) bool { return o == "superseded" || o == "failed" })
	delivered := 1
	if c.gotIt {
		delivered = 2
	}
	result := cellHealthy
	switch {
	case h.State == "ambiguous":
		require.False(t, c.scheduled, "a scheduled binding recovers by itself")
		c.requireAmbiguous(t)
		require.Len(t, h.Attention, 1)
		require.Equal(t, "ambiguous", h.Attention[0].Reason)
		result = cellAmbiguous
	case open:
		require.True(t, h.Healthy, "attention: %v", h.Attention)
		result = cellHealed
	case !c.scheduled && h.Version > delivered:
		require.Contains(t, []string{"issued", "undelivered"}, records[0].Outcome)
		if records[0].Outcome == "issued" || !c.isDecoy() {
			require.NotEmpty(t, records[0].EndsAt+records[0].EndedAt, "nobody will ever end what nobody got")
		}
		result = cellIssued
	default:
		require.True(t, h.Healthy, "attention: %v", h.Attention)
	}
	c.requireAccounted(t, h, records)
	c.requireFound(t, records)
	noRequestRotatedTwice(t, c.site)

	// What was lost stays lost for as long as nobody rotates; one rotation is
	// all that it takes.
	require.NoError(t, c.rotate(t.Context()))
	healed := c.mustHealth(t)
	require.Equal(t, h.Version+1, healed.Version)
	require.Equal(t, "ready", healed.State)
	require.True(t, healed.Healthy, "attention: %v", healed.Attention)
	require.NoError(t, c.isTrue(t, healed))
	c.result = result
}

// requireAccounted compares what C1 did with what is on record.
func (c *cell) requireAccounted(t *testing.T, h health, records []record) {
	t.Helper()
	kept, lost, recovered := 0, 0, 0
	for _, r := range records {
		switch r.Outcome {
		case "issued", "undelivered", "stored":
			kept++
			if r.Reason == "recovery" {
				recovered++
			}
		case "superseded":
			lost++
		}
	}
	if h.State == "ambiguous" {
		lost++
	}
	inJournal := c.committed()
	require.GreaterOrEqual(t, inJournal, kept, "more is on record than C1 did: %v", records)
	require.LessOrEqual(t, inJournal, kept+lost, "C1 did more than is on record or said to be unknown: %v", records)

	again := recovered
	if c.gotIt && c.asked == 1 {
		again++ // Vault sent a request again that had not come to C1
	}
	require.Equal(t, c.asked+again, c.site.asked(), "something asked C1 to rotate that nobody asked for")
	if !c.scheduled {
		require.Zero(t, recovered, "settling rotated a leased target")
	}
}

// requireFound looks every credential up that somebody could have.
func (c *cell) requireFound(t *testing.T, records []record) {
	t.Helper()
	for _, r := range records {
		if r.Fingerprint == "" {
			continue
		}
		vaulttest.Eventually(t, 10*time.Second, func() error {
			found, err := c.server.Root.Logical().WriteWithContext(t.Context(), c.mount+"/lookup", map[string]any{"fingerprint_sha256": r.Fingerprint})
			if err != nil {
				return fmt.Errorf("version %d (%s) is on record and cannot be looked up: %w", r.Version, r.Outcome, err)
			}
			if v := number(found.Data["version"]); v != r.Version {
				return fmt.Errorf("the secret of version %d is looked up as that of %d", r.Version, v)
			}
			return nil
		})
	}
}

const matrixIntro = `# Kill matrix

What becomes of a rotation when the process that carries it out is killed with
SIGKILL, at each step. ` + "`TestRecoveryKillMatrix`" + ` finds it on a real Vault server,
in ` + "`make e2e`" + `, and fails when it is not what this page says; the page is written
by it (` + "`cd e2e && C1_E2E_UPDATE=1 go test -run TestRecoveryKillMatrix .`" + `).

Rows are where the rotation was when the process died. *Stored* means in Vault's
storage; *half stored*, that the writes beside the state were not done: the entry
that wakes the engine for it, and that of the fingerprint. (Leased rotations write
both together, so the state itself was stored; scheduled ones write it last.)
Columns are what was rotated: a connector whose rotations end the previous
credential (exclusive) or leave it alive (overlapping), a decoy whose fingerprint
C1 shows, and one that has none; *leased* with ` + "`rotate_on=read`" + `, *scheduled* with
` + "`rotate_on=schedule`" + `, where an operator or a write asked for the rotation.
C1 answers 404 for a revoked credential in the first table, and shows it as deleted
in the second.

A cell says where the binding stands when nobody has done anything since:

| result | means |
|---|---|
| healthy | as before, or as after a rotation that succeeded; the credential that was vended last is good |
| recovers by itself | open for twice the ` + "`request_timeout`" + ` and at most a minute more, and said to be so (` + "`rotating`, then `ambiguous`" + `); then healthy: C1 showed that it had not rotated, or the binding, being scheduled, was rotated again |
| issued, end planned | the new credential is on record, with the time at which the engine ends it, since nobody got it and no lease does; if Vault sent the request again, the engine has learnt so and has ended it. Whoever asked got an error, and reads again |
| ambiguous | C1 may have rotated and the material is lost: the binding and ` + "`status`" + ` say so until the next read or write, which settles it |

In no cell did the binding ever look healthy while its newest credential was dead
at C1, unless the record says that it was ended; nor did one request to Vault
rotate twice, or C1 carry out what is neither on record nor said to be unknown.
Every secret on record could be looked up by its fingerprint, and one more
rotation succeeded in each cell. The attempt of a leased rotation that is half
stored shows when the binding is read, and in ` + "`status`" + ` from then on: C1 was not
asked, so what was vended before is good.
`

func matrixText(tables map[string][][]string) string {
	var page strings.Builder
	page.WriteString(matrixIntro)
	for _, v := range victims() {
		fmt.Fprintf(&page, "\n## When %s is killed\n\n%s", v.name, tableText(tables[v.name]))
	}
	page.WriteString(rootMatrixText())
	return page.String()
}

func tableText(results [][]string) string {
	var table strings.Builder
	table.WriteString("| when it dies")
	for _, what := range columns() {
		table.WriteString(" | " + what.name())
	}
	table.WriteString(" |\n|" + strings.Repeat("---|", 1+len(columns())) + "\n")
	for row, s := range steps() {
		table.WriteString("| " + s.name + " | " + strings.Join(results[row], " | ") + " |\n")
	}
	return table.String()
}
