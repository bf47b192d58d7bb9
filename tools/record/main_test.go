// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

const demo = `
Begin: one

$ look --for it
a  1
b  2
c  3
d  4

e  5

$ do it
done

End: two

$ look
 [
   x
   y
`

func TestPickTakesWhatTheStoryShows(t *testing.T) {
	screens, err := pick([][]step{
		{{"Begin: one", []command{{"look ", []string{"b ", "c ", "e "}, "c "}, {"do it", []string{"done"}, ""}}}},
		{{"End: two", []command{{"look", []string{"x"}, ""}}}},
	}, demo)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]line{
		{
			{heading, "Begin: one"},
			{prompt, "look --for it"},
			{gap, "…"},
			{output, "b  2"},
			{point, "c  3"},
			{gap, "…"},
			{output, "e  5"},
			{prompt, "do it"},
			{output, "done"},
		},
		{{heading, "End: two"}, {prompt, "look"}, {gap, " …"}, {output, "   x"}, {gap, "   …"}},
	}
	if !slices.EqualFunc(screens, want, slices.Equal[[]line]) {
		t.Errorf("got  %v\nwant %v", screens, want)
	}
}

func TestPickFailsWhereTheDemoHasChanged(t *testing.T) {
	for name, c := range map[string]struct {
		steps []step
		says  string
	}{
		"no such step":      {[]step{{"Begin", nil}}, `no step "Begin"`},
		"in another order":  {[]step{{"End: two", nil}, {"Begin: one", nil}}, `no step "Begin: one"`},
		"no such command":   {[]step{{"End: two", []command{{"do it", nil, ""}}}}, `no command "do it"`},
		"no such output":    {[]step{{"Begin: one", []command{{"look", []string{"done"}, ""}}}}, `prints no "done"`},
		"none in the order": {[]step{{"Begin: one", []command{{"look", []string{"b ", "a "}, ""}}}}, `prints no "a "`},
	} {
		if _, err := pick([][]step{c.steps}, demo); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s", name, err, c.says)
		}
	}
}

func TestSettleMakesTwoRunsTheSame(t *testing.T) {
	run := func(secret, sha, id, other, name, port string) string {
		screens := [][]line{
			{{output, "client_secret  secret-token:conductorone.com:v1:" + secret}, {output, "sha  " + sha}},
			{{prompt, "look id=" + id + " other=" + other}, {prompt, "login '" + name + "@127.0.0.1:" + port + "/ccc' " + id}},
			{{output, `"sha": "` + sha + `"`}},
		}
		if err := settle(screens); err != nil {
			t.Fatal(err)
		}
		return draw(screens)
	}
	const id, other = "3Mhou1RH8Gr3wiaKnMgfEjiRdtv", "3Mhotzs008chAl1tUumcD9ndI4f"
	one := run("eyJjcnYi-_x", strings.Repeat("0a", 32), id, other, "quiet-fox-12345", "34567")
	if two := run("eyJkIjoi", strings.Repeat("9f", 32), other, id, "merry-owl-00001", "8"); one != two {
		t.Errorf("two recordings differ:\n%s\n%s", one, two)
	}
	for _, shown := range []string{
		"secret-token:conductorone.com:v1:…", "sha  08b820b93a946f31…", `"sha": "08b820b93a946f31…"`,
		"id=3Mhotzs0… other=3MhouA7m…", "'witty-hydra-18051@127.0.0.1:8443/ccc' 3Mhotzs0…",
	} {
		if !strings.Contains(one, shown) {
			t.Errorf("%s is not in\n%s", shown, one)
		}
	}
}

func TestSettleRefusesWhatItDoesNotKnow(t *testing.T) {
	for text, says := range map[string]string{
		"token  hvs." + strings.Repeat("Ab1", 20):          "no rule",
		"created_at  2026-11-27T20:46:20Z":                 "no rule",
		"request_id  e227587d-94a5-11f4-0861-5655c1600068": "no rule",
		"a-b-00001 a-b-00002 a-b-00003 a-b-00004":          "too few replacements",
	} {
		if err := settle([][]line{{{output, text}}}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", text, err, says)
		}
	}
}

func TestWrap(t *testing.T) {
	words := strings.TrimSpace(strings.Repeat("seven77 ", 20))
	for name, c := range map[string]struct {
		line line
		want []string
	}{
		"short":   {line{output, "a b"}, []string{"a b"}},
		"a table": {line{output, words}, []string{words[:87], "    " + words[88:]}},
		"a command": {
			line{prompt, words[:63] + " -option=x -another y " + words[:15]},
			[]string{words[:63] + ` -option=x \`, "    -another y " + words[:15]},
		},
		"no options":    {line{prompt, words}, []string{words[:87] + ` \`, "    " + words[88:]}},
		"one long word": {line{output, "  " + strings.Repeat("x", 100)}, []string{"  " + strings.Repeat("x", 100)}},
	} {
		if got := wrap(c.line); !slices.Equal(got, c.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", name, got, c.want)
		}
	}
}

// GitHub shows an SVG as an image: without scripts, and without anything from elsewhere.
func TestDrawMakesAnImageByItself(t *testing.T) {
	svg := draw([][]line{
		{{heading, "One"}, {prompt, "a <b> && c"}, {output, "Success!"}},
		{{heading, "Two"}, {prompt, "d"}, {output, "login failed"}, {gap, "…"}, {point, "x"}},
	})
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if element.Name.Local == "script" || element.Name.Local == "image" || element.Name.Local == "foreignObject" {
			t.Errorf("there is a %s", element.Name.Local)
		}
		for _, a := range element.Attr {
			if a.Name.Local == "href" || strings.HasPrefix(a.Name.Local, "on") {
				t.Errorf("%s has %s", element.Name.Local, a.Name.Local)
			}
		}
	}
	for _, elsewhere := range []string{"@import", "url(", "@font-face"} {
		if strings.Contains(svg, elsewhere) {
			t.Errorf("there is %s", elsewhere)
		}
	}
	for _, part := range []string{
		"<g class=\"s1\" opacity=\"0\">", "<g class=\"s2\">", // the last one is the still picture
		"a &lt;b&gt; &amp;&amp; c", `class="good">Success!`, `class="bad">login failed`, `class="point">x`,
	} {
		if !strings.Contains(svg, part) {
			t.Errorf("%s is not in\n%s", part, svg)
		}
	}
}

func TestRecordSaysWhatIsMissing(t *testing.T) {
	if err := record(strings.NewReader(demo), io.Discard); err == nil || !strings.Contains(err.Error(), story[0][0].heading) {
		t.Errorf("%v", err)
	}
}
