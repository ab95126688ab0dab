// A player of the older system: its commands as calls of sessiond, its events from the updates.

import { Copy } from './copy.mjs';
import { Connection, json, values } from './wire.mjs';

export class Player {
  /** `hear` is called with every event, an object with its `command`. */
  constructor(label, address, app, access, hear) {
    this.label = label;
    this.connection = new Connection(address, app, access);
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
      resume: this.copy.resume(),
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
    this.copy = new Copy();
    // In the session, as far as this player knows from the updates.
    this.joined = false;
  }

  #follow(sessionID, playerID) {
    this.#forget();
    Object.assign(this, { sessionID, playerID });
    this.#subscribe({});
  }

  #subscribe(request) {
    this.stream = this.connection.subscribe({ ...this.#here(), ...request });
    this.stream.on('data', ({ update }) => this.#take(update));
    this.stream.on('error', () => this.hear({ command: 'connectionLost' }));
  }

  #take(update) {
    if (update.body === 'ended') {
      const command = update.ended.reason === 'END_REASON_LEFT' ? 'sessionLeave' : 'sessionLost';
      this.hear({ command });
      return;
    }
    const before = known(this.copy.state);
    const step = this.copy.take(update);
    if (step === undefined) return;
    const reason = step.body === 'snapshot' ? step.snapshot.reason : '';
    // Another session of the same id: what this player knew is of no use any more.
    if (reason === 'SNAPSHOT_REASON_EPOCH_CHANGED') this.joined = false;
    this.#tell(before, known(this.copy.state), reason === 'SNAPSHOT_REASON_RESET_SCHEMA');
  }

  /** What the older server would have said of a step. */
  #tell(before, { sessionData, players }, isReset) {
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
    } else if (!same(before.sessionData, sessionData)) {
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

/** What the older system's clients know of a session. */
function known({ data, members }) {
  const players = [...members].map(([playerID, { props }]) => [playerID, plain(props)]);
  return { sessionData: plain(data), players: new Map(players) };
}

function plain(values) {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, json(value)]));
}

function same(one, other) {
  return JSON.stringify(Object.entries(one).sort()) === JSON.stringify(Object.entries(other).sort());
}
