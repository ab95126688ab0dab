// Counts what went up and down.

import { encoded } from '../../session_server/wire.mjs';

export class Figures {
  #begunAt = performance.now();
  #up = { messages: 0, bytes: 0 };
  #down = { messages: 0, bytes: 0 };
  #latencies = [];
  refused = 0;

  up(request) {
    count(this.#up, encoded('GatewayRequest', request));
  }

  down(response) {
    count(this.#down, encoded('GatewayResponse', response));
  }

  acked(sentAt) {
    this.#latencies.push(performance.now() - sentAt);
  }

  print(users) {
    const seconds = (performance.now() - this.#begunAt) / 1000;
    const number = (it, places) => it.toFixed(places).padStart(6);
    const line = (what, { messages, bytes }) =>
      say(`${what}${number(messages)} messages, ${number(messages / seconds, 1)} a second, `
        + `${number(bytes / 1000 / seconds, 1)} kB a second`);
    say(`users${number(users)}, in ${seconds.toFixed(1)} s; ${this.refused} writes crossed the end of a user`);
    line('up   ', this.#up);
    line('down ', this.#down);
    const sorted = this.#latencies.sort((one, other) => one - other);
    if (sorted.length === 0) return;
    const at = (share) => sorted[Math.floor(share * (sorted.length - 1))].toFixed(1);
    say(`acks ${number(sorted.length)}, after ${at(0.5)} ms (p50) and ${at(0.99)} ms (p99)`);
  }
}

export function say(text) {
  console.log(`node: ${text}`);
}

function count(into, { length }) {
  into.messages += 1;
  into.bytes += length;
}
