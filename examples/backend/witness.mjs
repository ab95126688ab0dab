// The witness, which watches all rooms from outside, and the processes of the story.

import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Cable } from '../session_server/cable.mjs';
import { Copy } from '../session_server/copy.mjs';
import { Connection, Refused } from '../session_server/wire.mjs';
import { RACES, RUNNERS_PER_RACE, at, raceOf, sessionId, stride, userId } from './node/world.mjs';

// How long anything may take; tests on a busy machine are slow.
const PATIENCE_MS = 30_000;
const WITNESS = 'witness';

export class Failed extends Error {}

/** A spectator in every room, who gets every update one by one. */
export class Witness {
  updates = 0;
  /** Where each runner was shown last, by user id. */
  #x = new Map();
  /** Why a runner left, by user id. */
  #left = new Map();
  #mayLeave = new Map();
  #news = new EventEmitter();
  #watches = [];
  #processes = [];

  constructor(address, app) {
    this.connection = new Connection(address, app);
    this.failed = new Promise((_, reject) => {
      this.fail = (text) => reject(new Failed(text));
    });
  }

  /** Begins to watch all rooms. */
  async watches() {
    for (let race = 1; race <= RACES; race += 1) this.#watches.push(new Watch(this, race));
    await this.#until('all are shown', () => this.#x.size === RACES * RUNNERS_PER_RACE);
  }

  /** Everybody makes so many more steps. */
  async steps(count) {
    const until = this.#fewest() + count;
    await this.#until(`step ${until}`, () => this.#fewest() >= until);
    console.log(`  witness: everybody was seen to make each step until ${until}`);
  }

  /** Kicks a runner, as the app itself. */
  async kicks(runner) {
    const target = userId(runner);
    this.#mayLeave.set(target, 'DEPARTURE_REASON_KICKED');
    await this.connection.callAsApp('KickUser', { sessionId: sessionId(raceOf(runner)), targetUserId: target });
    await this.#until(`${target} is gone`, () => this.#left.has(target));
  }

  /** Asks for the members, beside the updates. */
  async asks() {
    for (let race = 1; race <= RACES; race += 1) {
      const { members } = await this.#info(race);
      const there = members.filter((member) => member.userId !== WITNESS && !member.disconnected);
      const expected = [...this.#x.keys()].filter((id) => raceOf(numberOf(id)) === race && !this.#left.has(id));
      if (there.length !== expected.length) this.fail(`${sessionId(race)} has ${there.length} connected users`);
    }
    console.log('  witness: GetSessionInfo names all of them, connected');
  }

  /** Everybody has left after so many steps. */
  async ends(steps) {
    await this.#until('everybody leaves', () => this.#left.size === this.#x.size);
    for (const [id, x] of this.#x) {
      const isKicked = this.#left.get(id) === 'DEPARTURE_REASON_KICKED';
      const made = x / stride(numberOf(id));
      if (!isKicked && made !== steps) this.fail(`${id} was seen to make ${made} steps of ${steps}`);
    }
    for (let race = 1; race <= RACES; race += 1) {
      const { members } = await this.#info(race);
      if (members.length !== 1) this.fail(`${sessionId(race)} still has ${members.length - 1} users`);
    }
    console.log(`  witness: everybody has left, after ${steps} steps, as the backend says`);
  }

  close() {
    this.#watches.forEach((watch) => watch.close());
    this.#processes.forEach((process) => process.close());
    this.connection.close();
  }

  /** A process that ends with the story. */
  with(process) {
    this.#processes.push(process);
  }

  /** A first snapshot, or a part of the log. */
  take(update) {
    if (update.body === 'snapshot') {
      const { reason, state } = update.snapshot;
      if (reason !== 'SNAPSHOT_REASON_FIRST') this.fail(`updates are missing: ${reason}`);
      state.members.filter((member) => member.userId !== WITNESS).forEach((member) => this.#sees(member, true));
    } else {
      update.log.updates.forEach(({ change }) => this.#change(change));
    }
    this.#news.emit('news');
  }

  #change({ members, left }) {
    for (const member of members.filter((it) => it.userId !== WITNESS)) {
      this.updates += 1;
      this.#sees(member, false);
    }
    for (const { userId: id, reason } of left) {
      if (reason !== (this.#mayLeave.get(id) ?? 'DEPARTURE_REASON_LEFT')) this.fail(`${id} left: ${reason}`);
      this.#left.set(id, reason);
    }
  }

  /** A step of a runner has to follow the one before; a user who just joined has no place yet. */
  #sees({ userId: id, disconnected, props }, isFirst) {
    if (disconnected) this.fail(`${id} is shown as disconnected`);
    if (props.length === 0) return;
    const { x, y } = Object.fromEntries(props.map(({ name, number }) => [name, number]));
    const known = this.#x.get(id);
    const next = known === undefined ? 0 : known + stride(numberOf(id));
    const expected = at(isFirst ? x : next);
    if (x !== expected.x || y !== expected.y) {
      this.fail(`${id} is shown at ${x}, ${y} instead of ${expected.x}, ${expected.y}`);
    }
    this.#x.set(id, x);
  }

  /** How many steps everybody has made. */
  #fewest() {
    const made = [...this.#x].filter(([id]) => !this.#left.has(id)).map(([id, x]) => x / stride(numberOf(id)));
    return Math.min(...made);
  }

  async #info(race) {
    return this.connection.callAsApp('GetSessionInfo', { sessionId: sessionId(race) });
  }

  #until(what, isSo) {
    return until(what, this.#news, isSo);
  }
}

/** One room, watched; the stream is resumed when the server ends it because of its age. */
class Watch {
  #copy = new Copy();
  #parts = [];

  constructor(witness, race) {
    Object.assign(this, { witness, race });
    this.#subscribe();
  }

  close() {
    this.isClosed = true;
    this.call.cancel();
  }

  #subscribe() {
    if (this.isClosed) return;
    this.#parts = [];
    const hasBegun = this.#copy.state.session !== undefined;
    this.call = this.witness.connection.subscribe({
      userId: WITNESS, sessionId: sessionId(this.race), join: { spectator: true },
      options: { delivery: 'DELIVERY_ALL' },
      resume: hasBegun ? this.#copy.resume() : undefined,
    });
    this.call.on('data', ({ update }) => this.#take(update));
    this.call.on('error', () => {});
    this.call.on('status', (status) => {
      const { code, message } = new Refused(status);
      if (this.isClosed) return;
      // The backend may not have opened the room yet.
      if (code === 'UNAVAILABLE' || (code === 'NOT_FOUND' && !hasBegun)) {
        setTimeout(() => this.#subscribe(), 50);
      } else {
        this.witness.fail(`${sessionId(this.race)} cannot be watched: ${code}: ${message}`);
      }
    });
  }

  #take(update) {
    if (update.body !== 'heartbeat' && update.body !== 'ended') this.#parts.push(update);
    const isNews = this.#copy.take(update) !== undefined;
    if (update.more) return;
    const parts = this.#parts.splice(0);
    if (isNews) parts.forEach((part) => this.witness.take(part));
  }
}

/** A process of the backend, behind a cable that can be cut. */
export class Process {
  #lines = [];
  #news = new EventEmitter();
  #exit;

  constructor(language, address, app, witness) {
    Object.assign(this, { language, app, witness });
    this.cable = new Cable(address);
    witness.with(this);
  }

  async starts() {
    const here = (path) => fileURLToPath(new URL(path, import.meta.url));
    const commands = { go: [here('go/backend')], node: [process.execPath, here('node/main.mjs')] };
    const [command, ...before] = commands[this.language];
    this.child = spawn(command, [...before, await this.cable.plugIn(), this.app], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.child.on('error', (error) => this.witness.fail(`${command}: ${error.message}`));
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      console.log(`  ${line}`);
      this.#lines.push(line);
      this.#news.emit('news');
    });
    this.child.on('close', (code, signal) => {
      this.#exit = signal ?? code;
      if (this.#exit !== 0 && !this.isOver) this.witness.fail(`the ${this.language} backend ended with ${this.#exit}`);
      this.#news.emit('news');
    });
    return this;
  }

  /** It says, or has said since it was listened to last, a line that fits. */
  async says(pattern) {
    let said;
    await until(`${this.language} says ${pattern}`, this.#news, () => {
      while (this.#lines.length > 0 && !said) said = pattern.exec(this.#lines.shift());
      return said;
    });
    return said;
  }

  /** It gets SIGTERM, and says so. */
  isTold(pattern) {
    this.child.kill('SIGTERM');
    return this.says(pattern);
  }

  async isKilled() {
    this.isOver = true;
    this.child.kill('SIGKILL');
    await until('it is gone', this.#news, () => this.#exit !== undefined);
    console.log(`  ${this.language}: ${this.#exit}`);
  }

  /** It ends by itself, in good order. */
  async ends() {
    await until('it ends', this.#news, () => this.#exit !== undefined);
  }

  close() {
    this.isOver = true;
    this.child?.kill('SIGKILL');
    this.cable.cut();
  }
}

function numberOf(id) {
  return Number(id.slice('runner-'.length));
}

async function until(what, emitter, isSo) {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  try {
    while (!isSo()) await once(emitter, 'news', { signal });
  } catch (error) {
    if (error.name === 'AbortError') throw new Failed(`it took too long until ${what}`);
    throw error;
  }
}
