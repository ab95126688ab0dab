// A player of the older system: its commands as calls of sessiond, its events from the updates.

import { Connection, json, values } from './wire.mjs';

const NOBODY = { data: {}, players: new Map(), order: new Map() };

export class Player {
  /** `hear` is called with every event, an object with its `command`. */
  constructor(label, address, app, hear) {
    this.label = label;
    this.connection = new Connection(address, app);
    this.hear = hear;
    this.playerID = '';
    this.sessionID = '';
    this.#forget();
  }

  // Commands. A refused one throws Refused.

  /** The format is given by example: these values are the keys, the types and the defaults. */
  async createSession({ sessionData, playerData }) {
    const { session, userId } = await this.connection.call('OpenSharedSession', {
      userId: this.playerID,
      profile: 'SESSION_PROFILE_SESSION_SERVER',
      schema: { dataExample: values(sessionData), propsExample: values(playerData) },
      // Without an id one is generated. The membership is tied to the stream that follows.
      join: { presence: 'PRESENCE_TIED' },
    });
    this.#follow(session.sessionId, userId);
  }

  /** Without an id: the session that was created last. */
  async joinSession(sessionID) {
    const { sessionId, userId } = await this.connection.call('JoinSession', {
      userId: this.playerID,
      ...(sessionID === undefined ? { newest: true } : { sessionId: sessionID }),
      join: { presence: 'PRESENCE_TIED' },
      omitSnapshot: true,
    });
    this.#follow(sessionId, userId);
  }

  /** Sets a part of one's own data, or all of it. */
  async updatePlayer(playerData) {
    await this.connection.call('SetUserProps', {
      userId: this.playerID,
      write: { sessionIds: [this.sessionID], set: values(playerData) },
    });
  }

  /** Sets a part of the session's data, or all of it. */
  async updateSessionData(sessionData) {
    await this.connection.call('SetSessionData', { ...this.#here(), set: values(sessionData) });
  }

  /** Gives the session a new format, which resets everybody's data. */
  async updateSession({ sessionData, playerData }) {
    await this.connection.call('ResetSession', {
      ...this.#here(),
      schema: { dataExample: values(sessionData), propsExample: values(playerData) },
    });
  }

  async leaveSession() {
    await this.connection.call('LeaveSession', this.#here());
  }

  /** The connection or the session was lost: one call resumes, joins, and opens what is missing. */
  async comeBack({ sessionData, playerData }) {
    this.#subscribe({
      join: {},
      openIfMissing: {
        profile: 'SESSION_PROFILE_SESSION_SERVER',
        schema: { dataExample: values(sessionData), propsExample: values(playerData) },
      },
      // With the same options as before: here with none.
      resume: { position: { epoch: this.epoch, revision: this.revision }, view: this.view },
    });
  }

  close() {
    this.stream?.cancel();
    this.connection.close();
  }

  #here() {
    return { userId: this.playerID, sessionId: this.sessionID };
  }

  // Events.

  #forget() {
    this.epoch = 0;
    this.revision = 0;
    this.view = 0;
    this.state = NOBODY;
    this.parts = [];
    // In the session, as far as this player knows from the updates.
    this.joined = false;
  }

  #follow(sessionID, playerID) {
    this.#forget();
    Object.assign(this, { sessionID, playerID });
    this.#subscribe({});
  }

  #subscribe(request) {
    this.parts = [];
    this.stream = this.connection.subscribe({ ...this.#here(), ...request });
    this.stream.on('data', ({ update }) => this.#take(update));
    this.stream.on('error', () => this.hear({ command: 'connectionLost' }));
  }

  /** One update, as update.proto describes it; all parts of a step are applied together. */
  #take(update) {
    if (update.body === 'ended') {
      const command = update.ended.reason === 'END_REASON_LEFT' ? 'sessionLeave' : 'sessionLost';
      this.hear({ command });
    } else if (update.body === 'heartbeat') {
      this.revision = update.toRevision;
    } else {
      this.parts.push(update);
      if (update.more) return;
      const [first, ...rest] = this.parts.splice(0);
      const isSnapshot = first.body === 'snapshot';
      if (!isSnapshot && first.toRevision <= this.revision) return;
      if (!isSnapshot && first.fromRevision > this.revision) throw new Error('a message was lost');
      const before = this.state;
      this.state = isSnapshot ? NOBODY : before;
      const state = isSnapshot ? first.snapshot.state : first.changes;
      for (const changes of [state, ...rest.map((part) => part.changes)]) {
        this.state = apply(this.state, changes);
      }
      this.revision = first.toRevision;
      if (isSnapshot) {
        this.epoch = first.epoch;
        this.view = first.snapshot.view;
        // Another session of the same id: what this player knew is of no use any more.
        if (first.snapshot.reason === 'SNAPSHOT_REASON_EPOCH_CHANGED') this.joined = false;
      }
      this.#tell(before, isSnapshot && first.snapshot.reason === 'SNAPSHOT_REASON_RESET_SCHEMA');
    }
  }

  /** What the older server would have said of a step. */
  #tell(before, isReset) {
    const { data: sessionData, players } = this.state;
    const said = (command, playerID) => this.hear({ command, playerID, playerData: players.get(playerID) });
    const others = [...players.keys()].filter((playerID) => playerID !== this.playerID);
    if (!this.joined) {
      // The first snapshot may still be without this player; the next step shows it then.
      if (!players.has(this.playerID)) return;
      this.joined = true;
      const { sessionID, playerID } = this;
      const playerData = players.get(playerID);
      this.hear({ command: 'sessionJoin', sessionID, playerID, sessionData, playerData });
      others.forEach((playerID) => said('playerJoin', playerID));
      return;
    }
    if (isReset) {
      // Everybody has the defaults, this player as well.
      this.hear({ command: 'sessionUpdate', sessionData, playerData: players.get(this.playerID) });
    } else if (!same(before.data, sessionData)) {
      this.hear({ command: 'sessionUpdate', sessionData });
    }
    for (const playerID of before.players.keys()) {
      // One's own leaving is a sessionLeave, when the stream has ended.
      if (!players.has(playerID) && playerID !== this.playerID) this.hear({ command: 'playerLeave', playerID });
    }
    for (const [playerID, playerData] of players) {
      const known = before.players.get(playerID);
      if (!known) said('playerJoin', playerID);
      else if (!isReset && !same(known, playerData)) said('playerUpdate', playerID);
    }
  }
}

function apply(state, changes) {
  const players = new Map(state.players);
  const order = new Map(state.order);
  for (const { userId, replaces, props, removed, joinOrder } of changes.members) {
    const known = replaces ? undefined : players.get(userId);
    if (known === undefined) order.set(userId, joinOrder);
    players.set(userId, setAndDrop(known ?? {}, props, removed));
  }
  for (const { userId } of changes.left) players.delete(userId);
  const joined = [...players].sort(([one], [other]) => order.get(one) - order.get(other));
  return { data: setAndDrop(state.data, changes.data, changes.dataRemoved), players: new Map(joined), order };
}

function setAndDrop(known, set, removed) {
  const next = { ...known };
  for (const item of set) next[item.name] = json(item);
  for (const key of removed) delete next[key];
  return next;
}

function same(one, other) {
  return JSON.stringify(Object.entries(one).sort()) === JSON.stringify(Object.entries(other).sort());
}
