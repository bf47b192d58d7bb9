// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/agenda"
	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// newAgenda returns the agenda of this mount, whose keys are targets and whose
// other side is C1.
func (b *backend) newAgenda() *agenda.Agenda {
	return agenda.New(b.life, agenda.Options{
		Storage: b.store, Logger: b.Logger(), Now: b.now, MayRun: b.mayWrite,
		Workers: b.workers, Settle: b.settleTask, Probe: b.probe, ClockTrusted: b.clockTrusted,
	})
}

// wake starts the agenda's worker unless it runs. It does nothing on a node that
// may not write; a worker that runs asks that by itself, at least once a minute.
func (b *backend) wake() {
	if b.store == nil || !b.agenda.Running() && !b.mayWrite() {
		return
	}
	b.replanInBackground()
	b.agenda.Wake()
}

// lookNow asks for a look at a target.
func (b *backend) lookNow(ctx context.Context, ref target.Ref) error {
	name, err := nameOf(ctx, b.store, ref)
	if err == nil {
		_, err = b.agenda.Put(ctx, name, b.now())
	}
	return err
}

// workers is how many targets may be settled at the same time. More than C1 may
// be asked about at once would begin what then waits, while its time runs.
func (b *backend) workers(ctx context.Context) (int, error) {
	cfg, err := readConfig(ctx, b.store)
	if err != nil || cfg == nil {
		return defaultRotationWorkers, err
	}
	return min(cfg.RotationWorkers, c1api.BackgroundRequests(cfg.MaxConcurrentRequests)), nil
}

// settleTask settles the target that a task is about.
func (b *backend) settleTask(ctx context.Context, task agenda.Task) (agenda.Outcome, error) {
	done := &settled{about: task.Key, alone: task.Alone}
	ctx = c1api.Background(ctx, b.now().Sub(task.Due))
	err := b.settle(ctx, task.Key, done)
	if err != nil {
		err = fmt.Errorf("%s: %w", done, err)
	}
	return agenda.Outcome{Next: done.next, Signal: signalOf(done.c1)}, err
}

// signalOf tells by what C1 said last whether it can be reached.
func signalOf(err error) agenda.Signal {
	switch {
	case err == nil:
		return agenda.Signal{Reach: agenda.Reached}
	case errors.Is(err, errNotAsked):
		return agenda.Signal{Reach: agenda.Unasked}
	case concernsAll(err):
		return agenda.Signal{Reach: agenda.Unreached, After: c1api.AsError(err).RetryAfter, Why: err}
	case c1api.OutcomeUnknown(err):
		return agenda.Signal{Reach: agenda.Unclear, Why: err}
	default:
		return agenda.Signal{Reach: agenda.Reached} // a refusal is an answer
	}
}

// probe asks C1 who this mount is. Anything but a success says that C1 cannot be
// reached as this mount needs it.
func (b *backend) probe(ctx context.Context) agenda.Signal {
	err := b.introspect(ctx)
	s := agenda.Signal{Reach: agenda.Unreached, Why: err}
	if e := c1api.AsError(err); e != nil {
		s.After = e.RetryAfter
	}
	if err == nil {
		s.Reach = agenda.Reached
	}
	return s
}

func (b *backend) introspect(ctx context.Context) error {
	s, err := b.session(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := s.bound(c1api.Background(ctx, 0))
	defer cancel()
	_, err = s.client.Introspect(ctx)
	return err
}

// clockTolerance is how far this machine's clock may be ahead of C1's.
const clockTolerance = 5 * time.Minute

// clockTrusted asks C1 for its time, and reports an error if this machine's clock
// is ahead of it. To be behind does no harm: things happen late.
func (b *backend) clockTrusted(ctx context.Context) error {
	if cfg, err := readConfig(ctx, b.store); err != nil || cfg == nil {
		return err // without a config there is nothing to do
	}
	err := b.introspect(ctx)
	if s := b.sessions.peek(); s != nil {
		if offset := s.client.Health().ClockOffset; offset < -clockTolerance {
			return fmt.Errorf("this machine's clock is %s ahead of C1's: correct it; until then nothing that is due is done", -offset.Round(time.Second))
		}
	}
	return err
}
