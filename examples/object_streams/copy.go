package main

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"sessiond.example/object_streams/gen/sessiond"
)

// copyOf is what a reader knows of one stream, put together from its updates: key -> value, with
// nested keys as "outer.inner". It is all that a reader has to do.
type copyOf map[string]any

// apply takes an update: reset, then what was removed, then the values.
func (known copyOf) apply(update *sessiond.StreamUpdate) {
	if update.Reset_ {
		for key := range known {
			delete(known, key)
		}
	}
	for _, key := range update.Removed {
		delete(known, key)
	}
	restarted := map[string]bool{}
	for _, key := range update.Restarted {
		restarted[key] = true
	}
	for _, value := range update.Values {
		news := plain(value)
		// Of an array come the new elements, to be added to those that are there. A key in mode LATEST
		// sends single elements, which take the place of what is there like any other value.
		elements, isArray := news.([]any)
		before, wasArray := known[value.Name].([]any)
		if isArray && wasArray && !restarted[value.Name] {
			news = append(append([]any{}, before...), elements...)
		}
		known[value.Name] = news
	}
}

func (known copyOf) String() string {
	var said []string
	for key, value := range known {
		said = append(said, fmt.Sprintf("%s=%v", key, value))
	}
	sort.Strings(said)
	return strings.Join(said, " ")
}

// news is what one update says, as text: its values as in copyOf, `reset`, `ended`, `-key` for what
// was removed, `key*` for arrays that started again, `key!` for functions that failed.
func news(update *sessiond.StreamUpdate) string {
	var said []string
	if update.GetReset_() {
		said = append(said, "reset")
	}
	if update.GetEnded() {
		said = append(said, "ended")
	}
	for _, key := range update.GetRemoved() {
		said = append(said, "-"+key)
	}
	values := copyOf{}
	for _, value := range update.GetValues() {
		values[value.Name] = plain(value)
	}
	for _, key := range update.GetRestarted() {
		values[key+"*"] = values[key]
		delete(values, key)
	}
	for key, why := range update.GetFailed() {
		values[key+"!"] = why
	}
	if len(values) > 0 {
		said = append(said, values.String())
	}
	return strings.Join(said, " ")
}

// plain is a value of this example as Go has it: the packed arrays and lists of texts become []any.
func plain(value *sessiond.NamedValue) any {
	switch kind := value.Kind.(type) {
	case *sessiond.NamedValue_Integer:
		return kind.Integer
	case *sessiond.NamedValue_Number:
		return kind.Number
	case *sessiond.NamedValue_Text:
		return strconv.Quote(kind.Text)
	case *sessiond.NamedValue_Numbers:
		all := make([]any, len(kind.Numbers.Items))
		for at, item := range kind.Numbers.Items {
			all[at] = item
		}
		return all
	case *sessiond.NamedValue_List:
		all := make([]any, len(kind.List.Items))
		for at, item := range kind.List.Items {
			all[at] = strconv.Quote(item.GetText())
		}
		return all
	}
	panic(fmt.Sprintf("this example has no values of type %T", value.Kind))
}

// What the writer sends.

type object = map[string]*sessiond.Value

func integer(value int64) *sessiond.Value {
	return &sessiond.Value{Kind: &sessiond.Value_Integer{Integer: value}}
}

func number(value float64) *sessiond.Value {
	return &sessiond.Value{Kind: &sessiond.Value_Number{Number: value}}
}

func text(value string) *sessiond.Value {
	return &sessiond.Value{Kind: &sessiond.Value_Text{Text: value}}
}

// numbers is a packed array: a sensor's samples.
func numbers(values ...float64) *sessiond.Value {
	return &sessiond.Value{Kind: &sessiond.Value_Numbers{Numbers: &sessiond.Numbers{Items: values}}}
}

// texts is a list.
func texts(values ...string) *sessiond.Value {
	list := &sessiond.ListValue{}
	for _, value := range values {
		list.Items = append(list.Items, text(value))
	}
	return &sessiond.Value{Kind: &sessiond.Value_List{List: list}}
}

func entries(values object) *sessiond.Value {
	return &sessiond.Value{Kind: &sessiond.Value_Map{Map: &sessiond.MapValue{Entries: values}}}
}
