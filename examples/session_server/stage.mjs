// What each player does and hears, printed and compared with what has to be.

import { isDeepStrictEqual } from 'node:util';
import { Player } from './player.mjs';
import { Refused } from './wire.mjs';

// How long an event may take; tests on a busy machine are slow.
const PATIENCE_MS = 20_000;

export class Stage {
  constructor(app, access) {
    this.app = app;
    this.access = access;
    this.players = [];
    this.passed = 0;
  }

  player(label, address) {
    const player = new Player(label, address, this.app, this.access, (event) => {
      player.heard.push(event);
      player.wake?.();
    });
    player.heard = [];
    this.players.push(player);
    return player;
  }

  chapter(title) {
    console.log(`\n${title}`);
  }

  /** A command that is taken. */
  async does(player, command, argument) {
    this.#print(player, '>', command, argument);
    await player[command](argument);
  }

  /** A command that is refused: with this code and reason, and these fields named. */
  async isRefused(player, command, argument, code, reason, fields = []) {
    this.#print(player, '>', command, argument);
    const refused = await player[command](argument).then(
      () => fail(`${player.label}: ${command} should have been refused`),
      (error) => error,
    );
    if (!(refused instanceof Refused)) throw refused;
    const actual = [refused.code, refused.reason, refused.fields];
    this.#compare(`why ${command} was refused`, actual, [code, reason, fields]);
    console.log([`  ${player.label.padEnd(11)} x ${code} ${reason}`, ...fields].join(`\n${' '.repeat(16)}`));
  }

  /** These events reach the player next, in this order, and so far no others. */
  async hears(player, ...events) {
    for (const expected of events) {
      const event = await this.#next(player);
      const { command, ...said } = event;
      this.#print(player, '<', command, said);
      this.#compare(`what ${player.label} hears`, event, expected);
    }
    this.#compare(`what else ${player.label} hears`, player.heard, []);
  }

  /** No player has heard anything else. */
  end() {
    for (const player of this.players) {
      this.#compare(`what else ${player.label} hears`, player.heard, []);
      player.close();
    }
  }

  async #next(player) {
    if (player.heard.length === 0) {
      let timer;
      await new Promise((resolve, reject) => {
        player.wake = resolve;
        timer = setTimeout(() => reject(new Failed(`${player.label} hears nothing`)), PATIENCE_MS);
      });
      clearTimeout(timer);
    }
    return player.heard.shift();
  }

  #compare(what, actual, expected) {
    if (!isDeepStrictEqual(actual, expected)) {
      fail(`${what}:\n    ${JSON.stringify(actual)}\n  instead of\n    ${JSON.stringify(expected)}`);
    }
    this.passed += 1;
  }

  #print(player, arrow, command, argument) {
    let text = argument === undefined ? '' : JSON.stringify(argument);
    // Ids are long: eight characters say enough.
    text = text.replace(/"([0-9a-f]{8})-[0-9a-f-]{27}"/g, '"$1"');
    console.log(`  ${player.label.padEnd(11)} ${arrow} ${command} ${text === '{}' ? '' : text}`.trimEnd());
  }
}

export class Failed extends Error {}

function fail(text) {
  throw new Failed(text);
}
