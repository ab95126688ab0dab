// Rooms whose players have x and y. What a player sends is its new place; on every tick each room
// sends to all of its clients what changed.
import http from "node:http";
import { Room, Server } from "@colyseus/core";
import { schema, t } from "@colyseus/schema";
import { WebSocketTransport } from "@colyseus/ws-transport";

const Player = schema({ x: t.float64(), y: t.float64() }, "Player");
const State = schema({ players: t.map(Player) }, "State");

class Place extends Room {
  maxClients = 10_000;
  patchRate = 50;
  state = new State();
  messages = {
    0: (client, { x, y }) => {
      const player = this.state.players.get(client.sessionId);
      player.x = x;
      player.y = y;
    },
  };

  onJoin(client) {
    this.state.players.set(client.sessionId, new Player({ x: -1, y: 0 }));
  }

  onLeave(client) {
    this.state.players.delete(client.sessionId);
  }
}

const server = new Server({
  greet: false,
  // Whether clients are there is left to the kernel, as sessiond does.
  transport: new WebSocketTransport({ server: http.createServer(), pingInterval: 0 }),
});
server.define("place", Place).filterBy(["room"]);
await server.listen(Number(process.argv[2]), "127.0.0.1");
