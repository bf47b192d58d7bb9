// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
)

// What a binding with annotate=true writes to its decoy at C1, which copies a
// decoy's annotations onto the finding that it raises.
const (
	annotationPlacement = "vault/placement"
	annotationVersion   = "vault/version"

	// maxAnnotation is the longest value that C1 takes, in characters.
	maxAnnotation = 256
	// annotateTimeout bounds what a caller waits for it: after the longest wait for
	// a turn and the longest request_timeout, that is what is left of Vault's 90 s.
	annotateTimeout = 4 * time.Second
)

// annotate writes where the copy just vended goes to the decoy's annotations, if
// the binding says so. The caller's material does not depend on it: a failure is
// a warning. A vend without a placement deletes the one before, which is another
// copy's.
func (t *turn) annotate(ctx context.Context, o *order, placement string) (warnings []string) {
	if o.bind == nil || !o.bind.Annotate {
		return nil
	}
	if runes := []rune(placement); len(runes) > maxAnnotation {
		placement = string(runes[:maxAnnotation-1]) + "…"
		warnings = append(warnings, fmt.Sprintf("the placement is cut to %d characters in the decoy's annotations", maxAnnotation))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(annotateTimeout, o.session.config.RequestTimeout))
	defer cancel()
	_, err := o.session.client.UpdateDecoy(ctx, &c1api.Decoy{
		ID:          t.ref.DecoyID,
		Annotations: map[string]string{annotationPlacement: placement, annotationVersion: strconv.Itoa(t.state.Version)},
	}, "annotations")
	if err == nil {
		return warnings
	}
	t.Logger().Warn("could not annotate a decoy", "target", t.ref.String(), "version", t.state.Version, "error", err)
	return append(warnings, fmt.Sprintf("the decoy's annotations at C1 do not say where this copy is: %s", err))
}
