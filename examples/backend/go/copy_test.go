package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"sessiond.example/backend/gen/sessiond"
)

type vector struct {
	Steps []struct {
		About   string
		Resumed bool
		Updates []struct{ Binary string }
		State   struct {
			Revision          uint64 `json:",string"`
			Session           json.RawMessage
			Data, PrivateData map[string]json.RawMessage
			Members           []struct {
				UserID       string
				Role         string
				Disconnected bool
				JoinOrder    uint64 `json:",string"`
				Props        map[string]json.RawMessage
			}
		}
	}
}

// Each step of updates leads to the state that the core has.
func TestVectors(t *testing.T) {
	files, _ := filepath.Glob("../../../proto/testdata/*.json")
	if len(files) < 10 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { replay(t, file) })
	}
}

func replay(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	need(t, err)
	var vector vector
	need(t, json.Unmarshal(text, &vector))
	known := &copyOf{}
	for _, step := range vector.Steps {
		if step.Resumed {
			known.resume()
		}
		for _, it := range step.Updates {
			bytes, err := base64.StdEncoding.DecodeString(it.Binary)
			need(t, err)
			update := &sessiond.SessionUpdate{}
			need(t, proto.Unmarshal(bytes, update))
			need(t, known.take(update))
		}
		state := step.State
		session := &sessiond.SessionInfo{}
		need(t, protojson.Unmarshal(state.Session, session))
		if !proto.Equal(known.session, session) || known.revision != state.Revision {
			t.Fatalf("%s: %v at %d, not %v at %d", step.About, known.session, known.revision, session, state.Revision)
		}
		same(t, step.About+": data", known.data, state.Data)
		same(t, step.About+": private data", known.private, state.PrivateData)
		if len(known.members) != len(state.Members) {
			t.Fatalf("%s: %d members, not %d", step.About, len(known.members), len(state.Members))
		}
		for _, expected := range state.Members {
			actual := known.members[expected.UserID]
			if actual == nil || actual.role.String() != expected.Role ||
				actual.disconnected != expected.Disconnected || actual.joinOrder != expected.JoinOrder {
				t.Fatalf("%s: %v, not %v", step.About, actual, expected)
			}
			same(t, step.About+": "+expected.UserID, actual.props, expected.Props)
		}
	}
}

func same(t *testing.T, what string, actual values, expected map[string]json.RawMessage) {
	if len(actual) != len(expected) {
		t.Fatalf("%s: %v, not %s", what, actual, expected)
	}
	for key, text := range expected {
		value := &sessiond.Value{}
		need(t, protojson.Unmarshal(text, value))
		expected := named(value)
		expected.Name = key
		if !proto.Equal(actual[key], expected) {
			t.Fatalf("%s: %v, not %v", what, actual[key], expected)
		}
	}
}

func need(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
