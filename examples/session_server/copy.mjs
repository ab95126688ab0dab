// What a client has of one session, put together from the updates of a subscription. It is all that a
// client has to do, as update.proto describes it: for LATEST and ALL delivery, by name and in columns.

const NOTHING = { session: undefined, data: {}, privateData: {}, members: new Map() };

export class Copy {
  epoch = 0;
  revision = 0;
  view = 0;
  /** Values are as the loader has them. Members are in join order, by user id. A step makes a new state. */
  state = NOTHING;
  /** The names of props in columns, by number. They stay for a resume. */
  #names = new Map();
  #parts = [];

  /** Where a new subscription goes on. To be called before each. */
  resume() {
    this.#parts = [];
    return { position: { epoch: this.epoch, revision: this.revision }, view: this.view };
  }

  /** Takes an update. Returns the first part of the step that it completes, if there is news in it. */
  take(update) {
    if (update.body === 'heartbeat' || update.body === 'ended') {
      this.revision = update.toRevision;
      return undefined;
    }
    this.#parts.push(update);
    if (update.more) return undefined;
    const parts = this.#parts.splice(0);
    const [first] = parts;
    if (first.body === 'snapshot') {
      this.epoch = first.epoch;
      this.view = first.snapshot.view;
      this.state = NOTHING;
      this.#names = new Map();
    } else {
      if (first.toRevision <= this.revision) return undefined;
      if (first.fromRevision > this.revision) throw new Error('a message was lost');
    }
    if (first.body === 'log') {
      // One after the other: somebody may come and go within a step.
      for (const { change } of parts.flatMap(({ log }) => log.updates)) this.#apply([change]);
    } else {
      this.#apply(parts.map((part) => (part.body === 'snapshot' ? part.snapshot.state : part.changes)));
    }
    this.revision = first.toRevision;
    return first;
  }

  #apply(parts) {
    let { session, data, privateData } = this.state;
    const members = new Map(this.state.members);
    for (const changes of parts) {
      session = changes.session ?? session;
      data = setAndDrop(data, changes.data, changes.dataRemoved);
      privateData = setAndDrop(privateData, changes.privateData, changes.privateDataRemoved);
      for (const change of changes.members) {
        members.set(change.userId, changed(change.replaces ? undefined : members.get(change.userId), change));
      }
    }
    for (const { userId } of parts.flatMap(({ left }) => left)) members.delete(userId);
    for (const { dictionary, blocks } of parts) {
      for (const { number, name } of dictionary?.props ?? []) this.#names.set(number, name);
      blocks.forEach((block) => this.#setColumns(members, block));
    }
    const inOrder = [...members].sort(([, one], [, other]) => one.joinOrder - other.joinOrder);
    this.state = { session, data, privateData, members: new Map(inOrder) };
  }

  #setColumns(members, block) {
    const ids = new Map([...members].map(([userId, { joinOrder }]) => [joinOrder, userId]));
    const columns = block.columns.map((column) => [this.#names.get(column.prop), valuesOf(column)]);
    usersOf(block).forEach((user, at) => {
      const member = members.get(ids.get(user));
      const props = columns.map(([name, values]) => {
        if (name === undefined || values[at] === undefined) throw new Error(`no name or no value for ${user}`);
        return [name, values[at]];
      });
      members.set(ids.get(user), { ...member, props: { ...member.props, ...Object.fromEntries(props) } });
    });
  }
}

function changed(known, { role, disconnected, joinOrder, props, removed }) {
  const before = known ?? { disconnected: false, joinOrder, props: {} };
  return {
    role: role ?? before.role,
    disconnected: disconnected ?? before.disconnected,
    joinOrder: before.joinOrder,
    props: setAndDrop(before.props, props, removed),
  };
}

function setAndDrop(known, set, removed) {
  const next = { ...known };
  for (const { name, ...value } of set) next[name] = value;
  for (const key of removed) delete next[key];
  return next;
}

/** The users of a block, by join order. */
function usersOf({ users, runs }) {
  const all = [...users];
  for (let at = 0, next = 0; at < runs.length; at += 2) {
    next += runs[at];
    for (const end = next + runs[at + 1]; next < end; next += 1) all.push(next);
  }
  return all;
}

/** The values of a column: one of its arrays is filled. */
function valuesOf({ numbers, floats, integers, flags, texts, values }) {
  return [
    ...numbers.map((number) => ({ number, kind: 'number' })),
    ...floats.map((item) => ({ floats: { items: [item] }, kind: 'floats' })),
    ...integers.map((integer) => ({ integer, kind: 'integer' })),
    ...flags.map((flag) => ({ flag, kind: 'flag' })),
    ...texts.map((text) => ({ text, kind: 'text' })),
    ...values,
  ];
}
