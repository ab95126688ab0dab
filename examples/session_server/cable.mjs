// A network cable: carries connections to the server, and can be cut.

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
      noDelay: true,
    };
    this.pairs = [];
    this.socket = net.createServer({ noDelay: true }, (near) => {
      const far = net.connect(server);
      for (const [from, to] of [[near, far], [far, near]]) {
        from.pipe(to);
        from.on('error', () => to.destroy());
      }
      this.pairs.push([near, far]);
    });
  }

  /** The address of the client's end. A certificate is for a name more often than for a number. */
  async plugIn(host = '127.0.0.1') {
    await once(this.socket.listen(0, '127.0.0.1'), 'listening');
    return `${host}:${this.socket.address().port}`;
  }

  cut() {
    this.socket.close();
    this.shake();
  }

  /** Connections are lost. New ones work, unless it is cut. */
  shake() {
    this.pairs.splice(0).flat().forEach((end) => end.destroy());
  }

  /** What clients send is lost, and after so many bytes of it their connections are. */
  loses(bytes) {
    let lost = 0;
    for (const [near] of this.pairs) {
      near.unpipe().resume();
      near.on('data', ({ length }) => {
        lost += length;
        if (lost >= bytes) this.shake();
      });
    }
  }
}
