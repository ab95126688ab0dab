// Drives the runners over one Gateway stream, or over the next one after it.

import { Copy } from '../../session_server/copy.mjs';
import { Connection, Refused } from '../../session_server/wire.mjs';
import { Figures, say } from './figures.mjs';
import { NAMES, at, blocks, everybody, raceOf, racesOf, sessionId, step, stepsOf, userId } from './world.mjs';

const GATEWAY_ID = 'races';
const GRACE_SECONDS = 20;
const TICK_MS = 50;

// Each stream begins with it. The other messages have the numbers after it, and go on counting on the
// next stream and in the next process.
const HELLO_SEQ = 1;
// With so many messages that are not acked the world waits: what has to be kept is bounded.
const MOST_UNACKED = 40;
// After so long without a message up, a heartbeat.
const QUIET_MS = 10_000;

// Trying again does not help.
const FINAL = ['INVALID_ARGUMENT', 'FAILED_PRECONDITION', 'PERMISSION_DENIED', 'UNAUTHENTICATED', 'UNIMPLEMENTED'];

export class TakenOver extends Error {}

export class Backend {
  figures = new Figures();

  // What it keeps from stream to stream.
  /** undefined: a process that has just started does not know it. */
  world;
  #copies = new Map();
  #seq = HELLO_SEQ;
  /** Messages that may have to be sent once more: { seq, blocks, sentAt }. */
  #unacked = [];

  // The stream that it drives them over, and what belongs to this stream. undefined: there is none.
  #link;
  #welcome;
  #attached;
  /** How many of welcome.attachedUsers were named. */
  #listed;
  /** The first message after hello was sent. */
  #isOpen = false;
  /** The world is read from the views once the first message is acked. */
  #isReading = false;
  /** All is done, and the stream is about to end. */
  #isLeaving = false;
  #acked;

  // The next stream, until its first message comes. The other one goes on meanwhile.
  #next;
  #again;
  #attempts = 0;
  #delay = 0;
  #heardAt;
  #saidAt;

  #isStopping = false;

  constructor(address, app) {
    Object.assign(this, { address, app });
  }

  /** Ends when everybody has left, after a call of `stop`. */
  run() {
    return new Promise((resolve, reject) => {
      const ticks = setInterval(() => this.#guarded(() => this.#tick()), TICK_MS);
      this.done = (settle) => {
        clearInterval(ticks);
        clearTimeout(this.#again);
        this.#link?.close();
        this.#next?.close();
        settle();
      };
      this.resolve = () => this.done(resolve);
      this.reject = (error) => this.done(() => reject(error));
      this.#open();
    });
  }

  stop() {
    this.#isStopping = true;
    this.#guarded(() => {});
  }

  /** After whatever happens it may be time to leave. */
  #guarded(happens) {
    try {
      happens();
      const isDone = this.#isOpen && !this.#isReading && this.#unacked.length === 0;
      if (this.#isStopping && isDone && !this.#isLeaving) this.#leave();
    } catch (error) {
      this.reject(error);
    }
  }

  /** Begins to open the next stream. */
  #open() {
    this.#next?.close();
    const link = new Link(this.address, {
      gatewayId: GATEWAY_ID, app: this.app, grace: { seconds: GRACE_SECONDS },
    });
    // Events of a link that was replaced mean nothing.
    const isOurs = () => link === this.#link || link === this.#next;
    link.call.on('data', (response) => {
      if (isOurs()) this.#guarded(() => this.#take(link, response));
    });
    link.call.on('status', (status) => {
      if (isOurs()) this.#guarded(() => this.#lost(link, new Refused(status)));
    });
    this.#next = link;
    this.#again = undefined;
    this.#heardAt = performance.now();
  }

  /** Opens the next stream after a while. */
  #openIn(milliseconds) {
    clearTimeout(this.#again);
    this.#again = setTimeout(() => this.#open(), milliseconds);
    this.#delay = 0;
  }

  /** Goes over to the next stream: it has taken over from the one before. */
  #turn() {
    this.#link?.close();
    this.#link = this.#next;
    this.#next = undefined;
    this.#welcome = undefined;
    this.#attached = new Set();
    this.#listed = 0;
    this.#isOpen = false;
    this.#isLeaving = false;
    this.#acked = 0;
    this.#attempts = 0;
  }

  /** What to do after the end of a stream. */
  #lost(link, error) {
    if (error.code === 'OK' && this.#isLeaving) {
      this.resolve();
      return;
    }
    if (link === this.#next) {
      this.#next = undefined;
    } else {
      this.#link = undefined;
      this.#isOpen = false;
    }
    link.close();
    // TAKEN_OVER: by the next stream of this process, or by another process.
    if (error.code === 'ABORTED' && !this.#next) throw new TakenOver('another process has taken over');
    if (FINAL.includes(error.code)) throw error;
    if (this.#next || this.#again) return;
    const wait = 100 * 2 ** this.#attempts;
    this.#attempts = Math.min(this.#attempts + 1, 5);
    this.#openIn(this.#delay + wait * (1 + Math.random()));
    say(`the stream was lost: ${error.code}: ${error.message}`);
  }

  /** Takes a message that came down. */
  #take(link, response) {
    if (link === this.#next) this.#turn();
    this.#heardAt = performance.now();
    this.figures.down(response);
    if (response.welcome) this.#welcome = response.welcome;
    for (const { handle, reason } of response.ended) {
      say(`${userId(handle)} ended: ${reason}`);
      this.world?.delete(handle);
      this.#attached.delete(handle);
    }
    for (const { handle } of response.attached) {
      this.#attached.add(handle);
      this.#listed += 1;
    }
    response.refusals.forEach((refusal) => this.#refused(refusal));
    for (const { handle, update } of response.updates) {
      if (update.body === 'ended') {
        if (!this.#isLeaving) say(`the view of ${sessionId(handle)} ended: ${update.ended.reason}`);
        this.#copies.delete(handle);
      } else {
        this.#copies.get(handle).take(update);
      }
    }
    if (response.ackedSeq) this.#ack(response.ackedSeq);
    if (response.goAway) this.#goAway(response.goAway);
    if (this.#welcome && !this.#isOpen && this.#listed >= (this.#welcome.attachedUsers ?? 0)) {
      this.#begin();
    }
  }

  /** Opens the next stream before the deadline. Until its first message comes, this one goes on. */
  #goAway({ reason, deadline, reconnectDelay }) {
    this.#delay = reconnectDelay ? milliseconds(reconnectDelay) : 0;
    // Now: the end of the stream follows.
    if (!deadline) return;
    const until = milliseconds(deadline) - Date.now();
    say(`go_away ${reason} in ${Math.round(until / 1000)}s: opens the next stream`);
    this.#openIn(Math.min(this.#delay, until / 2));
  }

  /** What to do without something that was asked for. */
  #refused(refusal) {
    const { handle = 0, reason, message } = refusal;
    if (reason === 'ERROR_REASON_UNKNOWN_HANDLE' || reason === 'ERROR_REASON_NOT_A_MEMBER') {
      // A write that crossed the end of its user. `ended` tells of that.
      this.figures.refused += 1;
    } else if (reason === 'ERROR_REASON_NO_VIEW') {
      this.#copies.delete(handle);
    } else if (handle !== 0) {
      say(`${userId(handle)} is refused: ${reason}: ${message}`);
      this.world.delete(handle);
    } else {
      throw new Error(`refused: ${JSON.stringify(refusal)}`);
    }
  }

  /** Takes note of messages that are done. */
  #ack(seq) {
    if (seq <= this.#acked || seq > this.#seq) {
      throw new Error(`acked ${seq} after ${this.#acked}, while ${this.#seq} was the last one sent`);
    }
    this.#acked = seq;
    while (this.#unacked.length > 0 && this.#unacked[0].seq <= seq) {
      this.figures.acked(this.#unacked.shift().sentAt);
    }
    if (this.#isReading && this.#unacked.length === 0) {
      this.#isReading = false;
      for (const runner of this.world.keys()) this.world.set(runner, this.#shown(runner));
    }
  }

  /**
   * Sends the first message after hello, once all attached users are named: what the stream needs first,
   * and then what was sent before and not dealt with.
   */
  #begin() {
    const { resumed, lastSeq = 0 } = this.#welcome;
    if (!resumed) {
      // Nobody is attached, and what was sent before may have been applied or not. What counts is where
      // everybody is now.
      this.#unacked = [];
      if (this.#isReading) this.world = undefined;
      this.#isReading = false;
    }
    this.#unacked = this.#unacked.filter(({ seq }) => seq > lastSeq);
    this.#seq = Math.max(this.#seq, lastSeq);
    let attach = [];
    if (lastSeq === 0) {
      this.world ??= everybody();
      attach = [...this.world.keys()].filter((runner) => !this.#attached.has(runner)).map(attachment);
      say(`attaches ${attach.length} users in ${racesOf(this.world).length} rooms`);
    } else if (this.world === undefined) {
      // A new process. Its runners are the users that are attached, and the views tell where they are.
      this.world = new Map([...this.#attached].map((runner) => [runner, at(0)]));
      this.#isReading = true;
      say(`takes over ${this.world.size} users after seq ${lastSeq}`);
    } else {
      for (const runner of this.world.keys()) {
        if (!this.#attached.has(runner)) this.world.delete(runner);
      }
      say(`goes on with ${this.world.size} users after seq ${lastSeq}; sends ${this.#unacked.length} messages again`);
    }
    const subscribe = racesOf(this.world).map((race) => {
      if (!this.#copies.has(race)) this.#copies.set(race, new Copy());
      const copy = this.#copies.get(race);
      return {
        handle: race, sessionId: sessionId(race), options: { encoding: 'ENCODING_COLUMNS' },
        resume: copy.state.session && copy.resume(),
      };
    });
    const first = { attach, subscribe, dictionary: NAMES };
    this.#isOpen = true;
    if (this.#unacked.length === 0) {
      this.#send(first, lastSeq === 0 ? blocks(this.world) : []);
      return;
    }
    this.#unacked.forEach((again, index) => {
      again.sentAt = performance.now();
      this.#put({ ...(index === 0 ? first : {}), seq: again.seq, blocks: again.blocks });
    });
  }

  /** Where the view of its race shows a runner. */
  #shown(runner) {
    const member = this.#copies.get(raceOf(runner))?.state.members.get(userId(runner));
    if (!member) throw new Error(`${userId(runner)} is not shown`);
    return { x: member.props.x.number, y: member.props.y.number };
  }

  /** Has everybody make a step, and looks whether the other side is still there. */
  #tick() {
    const silence = 2.5 * milliseconds(this.#welcome?.heartbeatInterval ?? { seconds: 8 });
    if (!this.#again && performance.now() - this.#heardAt > silence) {
      say(`nothing has come for ${silence} ms: the next stream`);
      this.#open();
    }
    if (!this.#isOpen || this.#isReading || this.#isStopping || this.#unacked.length >= MOST_UNACKED) return;
    if (this.world.size > 0) {
      step(this.world);
      this.#send({}, blocks(this.world));
    } else if (performance.now() - this.#saidAt > QUIET_MS) {
      this.#send({ heartbeat: {} }, []);
    }
  }

  /** Gives a message the next number, keeps what may have to be sent again, and sends it. */
  #send(request, blocks) {
    this.#seq += 1;
    this.#unacked.push({ seq: this.#seq, blocks, sentAt: performance.now() });
    this.#put({ ...request, seq: this.#seq, blocks });
  }

  #put(request) {
    this.figures.up(request);
    this.#saidAt = performance.now();
    this.#link.call.write(request);
  }

  /** Ends it in good order: the views show what was sent, and everybody leaves. */
  #leave() {
    for (const [runner, sent] of this.world) {
      const shown = this.#shown(runner);
      if (shown.x !== sent.x || shown.y !== sent.y) {
        throw new Error(`${userId(runner)} is shown at ${shown.x}, and was sent to ${sent.x}`);
      }
    }
    say(`all is acked, and the views show what was sent; everybody leaves after ${stepsOf(this.world)} steps`);
    this.#isLeaving = true;
    this.#seq += 1;
    this.#put({ seq: this.#seq, detach: [...this.world.keys()].map((handle) => ({ handle, leave: true })) });
    this.#link.call.end();
  }
}

function attachment(runner) {
  return { handle: runner, userId: userId(runner), sessionId: sessionId(raceOf(runner)), join: {}, openIfMissing: {} };
}

/** A Duration or Timestamp. */
function milliseconds({ seconds = 0, nanos = 0 }) {
  return seconds * 1000 + nanos / 1e6;
}

/** One Gateway stream, on a connection of its own: a load balancer may place each elsewhere. */
class Link {
  constructor(address, hello) {
    this.connection = new Connection(address);
    this.call = this.connection.streams.Gateway();
    // `status` says the same.
    this.call.on('error', () => {});
    this.call.write({ seq: HELLO_SEQ, hello });
  }

  close() {
    this.call.cancel();
    this.connection.close();
  }
}
