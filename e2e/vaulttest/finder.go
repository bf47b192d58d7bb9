// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import "bytes"

const (
	// finderWindow is how many bytes of a secret's end it is recognised by. The
	// end is what differs: a client secret begins like every other, a signed
	// assertion too.
	finderWindow = 16
	finderBase   = 1_099_511_628_211
	finderBits   = 22
)

// finder looks for any of many secrets in one pass over a text. A storm of
// rotations mints ten thousands of them and writes hundreds of megabytes, which
// nobody could search for one after the other.
type finder struct {
	short  [][]byte // shorter than the window
	byEnd  map[uint64][][]byte
	filter []uint64 // one bit for each hash in byEnd, so that most bytes cost no look-up
	out    uint64   // finderBase to the power of the window's length
}

func newFinder(secrets []string) *finder {
	f := &finder{byEnd: map[uint64][][]byte{}, filter: make([]uint64, 1<<(finderBits-6)), out: 1}
	for range finderWindow {
		f.out *= finderBase
	}
	known := map[string]bool{"": true}
	for _, secret := range secrets {
		if known[secret] {
			continue
		}
		known[secret] = true
		if len(secret) < finderWindow {
			f.short = append(f.short, []byte(secret))
			continue
		}
		var h uint64
		for _, c := range []byte(secret[len(secret)-finderWindow:]) {
			h = h*finderBase + uint64(c) + 1
		}
		f.byEnd[h] = append(f.byEnd[h], []byte(secret))
		f.filter[bit(h)>>6] |= 1 << (bit(h) & 63)
	}
	return f
}

func bit(h uint64) uint64 { return h * 0x9E3779B97F4A7C15 >> (64 - finderBits) }

// in returns where the first secret that ends in the text begins, or -1.
func (f *finder) in(text []byte) int {
	for _, secret := range f.short {
		if i := bytes.Index(text, secret); i >= 0 {
			return i
		}
	}
	if len(f.byEnd) == 0 {
		return -1
	}
	var h uint64
	for i, c := range text {
		h = h*finderBase + uint64(c) + 1
		if i >= finderWindow {
			h -= f.out * (uint64(text[i-finderWindow]) + 1)
		}
		if b := bit(h); f.filter[b>>6]&(1<<(b&63)) == 0 {
			continue
		}
		for _, secret := range f.byEnd[h] {
			if bytes.HasSuffix(text[:i+1], secret) {
				return i + 1 - len(secret)
			}
		}
	}
	return -1
}
