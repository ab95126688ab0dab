package main

import (
	"fmt"
	"sort"

	"sessiond.example/backend/gen/sessiond"
)

// Ten races of fifty runners. A runner's number is its handle, a race's number that of its view.
const (
	races          = 10
	runnersPerRace = 50
)

func userID(runner uint32) string  { return fmt.Sprintf("runner-%d", runner) }
func sessionID(race uint32) string { return fmt.Sprintf("race-%d", race) }
func raceOf(runner uint32) uint32  { return (runner-1)/runnersPerRace + 1 }

// place is where a runner is: so many metres along the track, and beside its middle.
type place struct{ x, y float64 }

// stride is how far a runner gets with a step. All these numbers are exact in a double, so that a
// reader can tell a step that is missing or that was made twice.
func stride(runner uint32) float64 {
	return 1 + float64(runner%16)/16
}

func at(x float64) place {
	return place{x, x - 8*float64(int(x/8)) - 4}
}

// world has the places of all runners that are attached.
type world map[uint32]place

// everybody stands at the start.
func everybody() world {
	all := world{}
	for runner := uint32(1); runner <= races*runnersPerRace; runner++ {
		all[runner] = at(0)
	}
	return all
}

func (w world) step() {
	for runner, place := range w {
		w[runner] = at(place.x + stride(runner))
	}
}

// steps is how many steps everybody has made.
func (w world) steps() int {
	for runner, place := range w {
		return int(place.x / stride(runner))
	}
	return 0
}

func (w world) runners() []uint32 {
	var all []uint32
	for runner := range w {
		all = append(all, runner)
	}
	sort.Slice(all, func(one, other int) bool { return all[one] < all[other] })
	return all
}

// races are those that have runners.
func (w world) races() []uint32 {
	var all []uint32
	for _, runner := range w.runners() {
		if race := raceOf(runner); len(all) == 0 || all[len(all)-1] != race {
			all = append(all, race)
		}
	}
	return all
}

// The names of the props in blocks.
const (
	propX = 1
	propY = 2
)

func names() *sessiond.Dictionary {
	return &sessiond.Dictionary{Props: []*sessiond.DictionaryEntry{
		{Number: propX, Name: "x"},
		{Number: propY, Name: "y"},
	}}
}

// blocks are the places of all runners: one block, with a row for each runner and a column for each
// prop. None if there is no runner.
func (w world) blocks() []*sessiond.Block {
	if len(w) == 0 {
		return nil
	}
	runners := w.runners()
	x, y := &sessiond.Column{Prop: propX}, &sessiond.Column{Prop: propY}
	for _, runner := range runners {
		x.Numbers = append(x.Numbers, w[runner].x)
		y.Numbers = append(y.Numbers, w[runner].y)
	}
	return []*sessiond.Block{{Runs: runs(runners), Columns: []*sessiond.Column{x, y}}}
}

// runs are rising numbers as pairs of a gap and a length: [1 500] are 1 to 500.
func runs(rising []uint32) []uint64 {
	var pairs []uint64
	next := uint32(0)
	for _, number := range rising {
		if len(pairs) == 0 || number != next {
			pairs = append(pairs, uint64(number-next), 0)
		}
		pairs[len(pairs)-1]++
		next = number + 1
	}
	return pairs
}
