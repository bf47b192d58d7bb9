// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	plotWidth  = 8 * vg.Inch
	plotHeight = 4.5 * vg.Inch
	plotMargin = 10 // points around everything, and before the legend
)

// palette are colours that can be told apart also by those who see fewer of
// them (after Okabe and Ito), ours first.
var palette = []color.RGBA{
	{R: 0xd5, G: 0x5e, B: 0x00, A: 0xff},
	{R: 0x00, G: 0x72, B: 0xb2, A: 0xff},
	{R: 0x00, G: 0x9e, B: 0x73, A: 0xff},
	{R: 0xcc, G: 0x79, B: 0xa7, A: 0xff},
	{R: 0x56, G: 0xb4, B: 0xe9, A: 0xff},
	{R: 0x4d, G: 0x4d, B: 0x4d, A: 0xff},
	{R: 0xe6, G: 0x9f, B: 0x00, A: 0xff},
}

var glyphs = []draw.GlyphDrawer{
	draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{},
}

var (
	ink  = color.Gray{Y: 0x30}
	grid = color.Gray{Y: 0xd8}
)

// WriteSVG draws the medians as lines with points, and the rounds' spread as
// bars.
func (p Plot) WriteSVG(w io.Writer) error {
	picture := plot.New()
	p.style(picture)
	legend := plot.NewLegend()
	legend.Left, legend.Top = true, true
	legend.TextStyle = textStyle(picture.Legend.TextStyle, 10)
	legend.Padding = vg.Points(4)
	for i, s := range p.Series {
		data := s.points(p)
		if len(data.XYs) == 0 {
			continue
		}
		line, points, bars, err := plotters(data, i)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", p.File, s.Name, err)
		}
		picture.Add(bars, line, points)
		legend.Add(s.Name, line, points)
	}
	p.scale(picture)

	canvas := vgsvg.New(plotWidth, plotHeight)
	whole := draw.New(canvas)
	whole.SetColor(color.White)
	whole.Fill(whole.Path())
	// The legend has a column of its own, where no line can come.
	size := legend.Rectangle(whole)
	column := size.Max.X - size.Min.X + 3*plotMargin // other fonts are wider
	picture.Draw(draw.Crop(whole, plotMargin, -column-plotMargin, plotMargin, -plotMargin))
	legend.Draw(draw.Crop(whole, plotWidth-column, -plotMargin, 0, -4*plotMargin))

	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Few who look at it have this font.
	_, err := w.Write(bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans;"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")))
	return err
}

// textStyle returns a style in the plots' font.
func textStyle(style draw.TextStyle, size vg.Length) draw.TextStyle {
	style.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	style.Color = ink
	return style
}

func (p Plot) style(picture *plot.Plot) {
	picture.Title.Text, picture.X.Label.Text, picture.Y.Label.Text = p.Title, p.X, p.Y
	picture.Title.TextStyle = textStyle(picture.Title.TextStyle, 13)
	picture.Title.Padding = vg.Points(8)
	for _, axis := range []*plot.Axis{&picture.X, &picture.Y} {
		axis.Label.TextStyle = textStyle(axis.Label.TextStyle, 11)
		axis.Label.Padding = vg.Points(4)
		axis.Tick.Label = textStyle(axis.Tick.Label, 10)
		axis.Color, axis.Tick.Color = ink, ink
		axis.Tick.Length, axis.Padding = vg.Points(4), 0
	}
	lines := plotter.NewGrid()
	for _, style := range []*draw.LineStyle{&lines.Horizontal, &lines.Vertical} {
		style.Color, style.Width = grid, vg.Points(0.5)
	}
	picture.Add(lines)
}

// errorPoints are a series as gonum takes it.
type errorPoints struct {
	plotter.XYs
	plotter.YErrors
}

// points leaves out what has no place on the plot's axes.
func (s Series) points(p Plot) errorPoints {
	var data errorPoints
	for i, x := range s.X {
		y := s.Y[i].Median()
		lowest, highest := s.Y[i].Spread()
		if p.LogX && x <= 0 || p.LogY && lowest <= 0 {
			continue
		}
		data.XYs = append(data.XYs, plotter.XY{X: x, Y: y})
		data.YErrors = append(data.YErrors, struct{ Low, High float64 }{y - lowest, highest - y})
	}
	return data
}

func plotters(data errorPoints, i int) (*plotter.Line, *plotter.Scatter, *plotter.YErrorBars, error) {
	line, points, err := plotter.NewLinePoints(data)
	if err != nil {
		return nil, nil, nil, err
	}
	bars, err := plotter.NewYErrorBars(data)
	if err != nil {
		return nil, nil, nil, err
	}
	colour := palette[i%len(palette)]
	line.Color, line.Width = colour, vg.Points(1.5)
	if i == 0 {
		line.Width = vg.Points(2.5)
	}
	points.Color, points.Radius, points.Shape = colour, vg.Points(3.5), glyphs[i%len(glyphs)]
	bars.Color, bars.Width, bars.CapWidth = colour, vg.Points(1), vg.Points(6)
	return line, points, bars, nil
}

// scale sets the axes' ranges and ticks. A linear axis of values begins at 0, so
// that half as high is half as much.
func (p Plot) scale(picture *plot.Plot) {
	if p.LogX {
		picture.X.Scale, picture.X.Tick.Marker = plot.LogScale{}, p.xTicks()
		widen(&picture.X)
	}
	if p.LogY {
		picture.Y.Scale, picture.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
		widen(&picture.Y)
	} else {
		picture.Y.Min = min(0, picture.Y.Min)
		picture.Y.Max *= 1.05
		picture.Y.Tick.Marker = plot.TickerFunc(linearTicks)
	}
}

// widen gives the outermost points some room on a logarithmic axis.
func widen(axis *plot.Axis) {
	if axis.Min > axis.Max { // there are no points
		axis.Min, axis.Max = 1, 10
	}
	axis.Min /= 1.2
	axis.Max *= 1.2
}

// mostTicks is up to how many values of X each have their own tick.
const mostTicks = 10

func (p Plot) xTicks() plot.Ticker {
	var values []float64
	for _, s := range p.Series {
		values = append(values, s.X...)
	}
	slices.Sort(values)
	values = slices.Compact(values)
	if len(values) > mostTicks {
		return plot.TickerFunc(logTicks)
	}
	ticks := make(plot.ConstantTicks, len(values))
	for i, x := range values {
		ticks[i] = plot.Tick{Value: x, Label: label(x)}
	}
	return ticks
}

// logTicks are 1, 2, 5, 10, 20, 50…
func logTicks(lowest, highest float64) []plot.Tick {
	var ticks []plot.Tick
	for decade := math.Pow(10, math.Floor(math.Log10(lowest))); decade <= highest; decade *= 10 {
		for _, step := range []float64{1, 2, 5} {
			if x := step * decade; x >= lowest && x <= highest {
				ticks = append(ticks, plot.Tick{Value: x, Label: label(x)})
			}
		}
	}
	return ticks
}

// linearTicks are the multiples of 1, 2 or 5, 10, 20… that make about six.
func linearTicks(lowest, highest float64) []plot.Tick {
	rough := (highest - lowest) / 6
	step := math.Pow(10, math.Floor(math.Log10(rough)))
	switch {
	case rough > 5*step:
		step *= 10
	case rough > 2*step:
		step *= 5
	case rough > step:
		step *= 2
	}
	var ticks []plot.Tick
	for i := math.Ceil(lowest / step); i*step <= highest; i++ {
		ticks = append(ticks, plot.Tick{Value: i * step, Label: label(i * step)})
	}
	return ticks
}

// label writes a number without the zeros that only tell how exact it is.
func label(x float64) string {
	text := number(x)
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text
}
