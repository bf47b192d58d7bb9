// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Command record draws a recording of the demo, an SVG that moves, from what the demo
// has printed:
//
//	scripts/demo.sh | go run -C tools/record . >docs/demo.svg
//
// It shows the steps that story.go names, and fails if one of them is not there. What
// differs from run to run is replaced, so that the same demo makes the same bytes.
package main

import (
	"io"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("record: ")
	if err := record(os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func record(demo io.Reader, svg io.Writer) error {
	printed, err := io.ReadAll(demo)
	if err != nil {
		return err
	}
	screens, err := pick(story, string(printed))
	if err != nil {
		return err
	}
	if err := settle(screens); err != nil {
		return err
	}
	_, err = io.WriteString(svg, draw(screens))
	return err
}
