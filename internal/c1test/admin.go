// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import "net/http"

// adminPath is where a tenant takes orders for its emulator.
const adminPath = "/_emulator/"

func (t *Tenant) serveAdmin(w http.ResponseWriter, _ *http.Request) {
	write(w, fail(http.StatusNotFound, codeNotFound, "Not Found"))
}
