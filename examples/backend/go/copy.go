package main

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"sessiond.example/backend/gen/sessiond"
)

// copyOf is what a client has of one view of a session, put together from its updates. It is all that
// a client has to do, as update.proto describes it: LATEST and ALL delivery, by name and in columns.
type copyOf struct {
	epoch, revision uint64
	view            uint32
	session         *sessiond.SessionInfo
	data, private   values
	members         map[string]*member
	// The names of props in columns, by number. They stay for a resume.
	names map[uint64]string
	// The messages of a step that is not complete.
	parts []*sessiond.SessionUpdate
}

type values map[string]*sessiond.NamedValue

type member struct {
	role         sessiond.Role
	disconnected bool
	joinOrder    uint64
	props        values
}

// resume is where a new subscription goes on; none for a copy that has nothing. To be called before
// each new subscription.
func (c *copyOf) resume() *sessiond.Resume {
	c.parts = nil
	if c.epoch == 0 {
		return nil
	}
	return &sessiond.Resume{Position: &sessiond.Position{Epoch: c.epoch, Revision: c.revision}, View: c.view}
}

// take takes an update. What comes in parts is applied when the last one is there.
func (c *copyOf) take(update *sessiond.SessionUpdate) error {
	switch update.Body.(type) {
	case *sessiond.SessionUpdate_Heartbeat, *sessiond.SessionUpdate_Ended:
		// Before there is anything to show it is 0, and changes nothing.
		if update.ToRevision > c.revision {
			c.revision = update.ToRevision
		}
		return nil
	}
	c.parts = append(c.parts, update)
	if update.More {
		return nil
	}
	parts := c.parts
	first := parts[0]
	c.parts = nil
	if snapshot := first.GetSnapshot(); snapshot != nil {
		*c = copyOf{
			epoch: first.Epoch, view: snapshot.View,
			data: values{}, private: values{}, members: map[string]*member{}, names: map[uint64]string{},
		}
	} else if first.ToRevision <= c.revision {
		return nil
	} else if first.FromRevision > c.revision {
		return errors.New("a message was lost")
	}
	if err := c.applyAll(parts); err != nil {
		return err
	}
	c.revision = first.ToRevision
	return nil
}

func (c *copyOf) applyAll(parts []*sessiond.SessionUpdate) error {
	if parts[0].GetLog() != nil {
		// One after the other: somebody may come and go within a step.
		for _, part := range parts {
			for _, update := range part.GetLog().Updates {
				if err := c.apply(update.Change); err != nil {
					return err
				}
			}
		}
		return nil
	}
	var all []*sessiond.Changes
	for _, part := range parts {
		if snapshot := part.GetSnapshot(); snapshot != nil {
			all = append(all, snapshot.State)
		} else {
			all = append(all, part.GetChanges())
		}
	}
	return c.apply(all...)
}

// apply applies one step: all its parts together.
func (c *copyOf) apply(parts ...*sessiond.Changes) error {
	for _, changes := range parts {
		if changes.Session != nil {
			c.session = changes.Session
		}
		c.data.change(changes.Data, changes.DataRemoved)
		c.private.change(changes.PrivateData, changes.PrivateDataRemoved)
		for _, change := range changes.Members {
			known := c.members[change.UserId]
			if known == nil || change.Replaces {
				known = &member{joinOrder: change.JoinOrder, props: values{}}
				c.members[change.UserId] = known
			}
			if change.Role != sessiond.Role_ROLE_UNSPECIFIED {
				known.role = change.Role
			}
			if change.Disconnected != nil {
				known.disconnected = *change.Disconnected
			}
			known.props.change(change.Props, change.Removed)
		}
	}
	for _, changes := range parts {
		for _, departure := range changes.Left {
			delete(c.members, departure.UserId)
		}
	}
	byOrder := map[uint64]*member{}
	for _, known := range c.members {
		byOrder[known.joinOrder] = known
	}
	for _, changes := range parts {
		for _, entry := range changes.Dictionary.GetProps() {
			c.names[entry.Number] = entry.Name
		}
		for _, block := range changes.Blocks {
			if err := c.applyBlock(block, byOrder); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *copyOf) applyBlock(block *sessiond.Block, byOrder map[uint64]*member) error {
	users := usersOf(block)
	for _, column := range block.Columns {
		name, isKnown := c.names[column.Prop]
		cells := cellsOf(column)
		if !isKnown || len(cells) != len(users) {
			return fmt.Errorf("column %d has %d values for %d users", column.Prop, len(cells), len(users))
		}
		for at, user := range users {
			if byOrder[user] == nil {
				return fmt.Errorf("a block names member %d, who is not there", user)
			}
			cells[at].Name = name
			byOrder[user].props[name] = cells[at]
		}
	}
	return nil
}

func (v values) change(set []*sessiond.NamedValue, removed []string) {
	for _, value := range set {
		v[value.Name] = value
	}
	for _, key := range removed {
		delete(v, key)
	}
}

// usersOf are the users of a block, by join order.
func usersOf(block *sessiond.Block) []uint64 {
	users := block.Users
	next := uint64(0)
	for at := 0; at+1 < len(block.Runs); at += 2 {
		next += block.Runs[at]
		for end := next + block.Runs[at+1]; next < end; next++ {
			users = append(users, next)
		}
	}
	return users
}

// cellsOf are the values of a column: one of its arrays is filled.
func cellsOf(column *sessiond.Column) []*sessiond.NamedValue {
	var cells []*sessiond.NamedValue
	for _, it := range column.Numbers {
		cells = append(cells, &sessiond.NamedValue{Kind: &sessiond.NamedValue_Number{Number: it}})
	}
	for _, it := range column.Floats {
		floats := &sessiond.Floats{Items: []float32{it}}
		cells = append(cells, &sessiond.NamedValue{Kind: &sessiond.NamedValue_Floats{Floats: floats}})
	}
	for _, it := range column.Integers {
		cells = append(cells, &sessiond.NamedValue{Kind: &sessiond.NamedValue_Integer{Integer: it}})
	}
	for _, it := range column.Flags {
		cells = append(cells, &sessiond.NamedValue{Kind: &sessiond.NamedValue_Flag{Flag: it}})
	}
	for _, it := range column.Texts {
		cells = append(cells, &sessiond.NamedValue{Kind: &sessiond.NamedValue_Text{Text: it}})
	}
	for _, it := range column.Values {
		cells = append(cells, named(it))
	}
	return cells
}

// named is a Value as a NamedValue without a name: their bytes are the same.
func named(value *sessiond.Value) *sessiond.NamedValue {
	named := &sessiond.NamedValue{}
	bytes, err := proto.Marshal(value)
	if err == nil {
		err = proto.Unmarshal(bytes, named)
	}
	if err != nil {
		panic(err)
	}
	return named
}
