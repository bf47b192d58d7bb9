// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Has Mermaid read each diagram of Markdown files, and fails if it cannot read one:
//
//	node parse.mjs page.md...

import { readFileSync } from 'node:fs'
import { JSDOM } from 'jsdom'

// Mermaid wants a browser, even to parse.
const { window } = new JSDOM('')
globalThis.window = window
globalThis.document = window.document
const { default: mermaid } = await import('mermaid')

let failed = false
for (const page of process.argv.slice(2)) {
  for (const [, diagram] of readFileSync(page, 'utf8').matchAll(/^```mermaid\n(.*?)^```/gms)) {
    try {
      const { diagramType } = await mermaid.parse(diagram)
      console.log(`${page}: ${diagramType}`)
    } catch (error) {
      failed = true
      console.log(`${page}: ${error.message}\n${diagram}`)
    }
  }
}
process.exit(failed ? 1 : 0)
