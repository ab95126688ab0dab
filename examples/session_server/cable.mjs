// A network cable: carries one player's connection to the server, and can be cut.

import net from 'node:net';
import { once } from 'node:events';

export class Cable {
  constructor(address) {
    const at = address.lastIndexOf(':');
    const server = {
      host: address.slice(0, at).replace(/^\[|\]$/g, ''),
      port: Number(address.slice(at + 1)),
      // localhost may be ::1 first, where the server does not listen.
      autoSelectFamily: true,
    };
    this.ends = [];
    this.socket = net.createServer((near) => {
      const far = net.connect(server);
      for (const [from, to] of [[near, far], [far, near]]) {
        from.pipe(to);
        from.on('error', () => to.destroy());
      }
      this.ends.push(near, far);
    });
  }

  /** The address of the player's end. */
  async plugIn() {
    await once(this.socket.listen(0, '127.0.0.1'), 'listening');
    return `127.0.0.1:${this.socket.address().port}`;
  }

  cut() {
    this.socket.close();
    this.ends.forEach((end) => end.destroy());
  }
}
