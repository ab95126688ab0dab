// SessionServer's example on sessiond: a session fixes the format of its data, players join and leave,
// and everybody hears what changes. Everything that is printed is checked; the exit code is 1 if
// anything is not as it should be.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Cable } from './cable.mjs';
import { Failed, Stage } from './stage.mjs';
import { Connection, Refused, credentials } from './wire.mjs';

let address, access;
try {
  const { values: { ca }, positionals } = parseArgs({ options: { ca: { type: 'string' } }, allowPositionals: true });
  address = positionals[0] ?? 'localhost:7000';
  access = credentials(ca && readFileSync(ca), process.env.TOKEN);
} catch (error) {
  console.error(`session server: ${error.message}`);
  process.exit(1);
}

// An app of its own, so that "the session created last" is this one's.
const app = `session_server-${process.pid}-${Date.now()}`;

const FORMAT = { sessionData: { endTimeInMS: 1262304000 }, playerData: { name: '__unset__' } };

// What a later match needs; numbers accept fractions although these have none.
const OTHER_FORMAT = {
  sessionData: { mapName: 'castle', endTimeInMS: 0 },
  playerData: { name: '__unset__', position: { x: -1, y: -1 } },
};

async function play(stage, backend) {
  const cable = new Cable(address);
  const cloud = stage.player('CloudOfDust', address);
  const now = stage.player('NowYouSeeMe', await cable.plugIn('localhost'));
  const late = stage.player('newcomer', address);
  const other = stage.player('elsewhere', address);
  const join = (player, { sessionData, playerData }) => ({
    command: 'sessionJoin', sessionID: player.sessionID, playerID: player.playerID, sessionData, playerData,
  });
  const of = (command, player, playerData) => ({ command, playerID: player.playerID, playerData });
  const left = (player) => ({ command: 'playerLeave', playerID: player.playerID });

  stage.chapter('nothing to join yet');
  await stage.isRefused(now, 'joinSession', undefined, 'NOT_FOUND', 'SESSION_NOT_FOUND');

  stage.chapter('a session is created with the format of its data; two players give their names');
  await stage.does(cloud, 'createSession', FORMAT);
  await stage.hears(cloud, join(cloud, FORMAT));
  await stage.does(cloud, 'updatePlayer', { name: 'CloudOfDust' });
  await stage.hears(cloud, of('playerUpdate', cloud, { name: 'CloudOfDust' }));
  await stage.does(now, 'joinSession');
  await stage.hears(now, join(now, FORMAT), of('playerJoin', cloud, { name: 'CloudOfDust' }));
  await stage.hears(cloud, of('playerJoin', now, { name: '__unset__' }));
  await stage.does(now, 'updatePlayer', { name: 'NowYouSeeMe' });
  for (const player of [cloud, now]) {
    await stage.hears(player, of('playerUpdate', now, { name: 'NowYouSeeMe' }));
  }

  stage.chapter('a newcomer learns of everyone already there, and they of it');
  await stage.does(late, 'joinSession', cloud.sessionID);
  await stage.hears(
    late,
    join(late, FORMAT),
    of('playerJoin', cloud, { name: 'CloudOfDust' }),
    of('playerJoin', now, { name: 'NowYouSeeMe' }),
  );
  for (const player of [cloud, now]) {
    await stage.hears(player, of('playerJoin', late, FORMAT.playerData));
  }

  stage.chapter('session data changes; a number that was given without a fraction takes one');
  await stage.does(late, 'updateSessionData', { endTimeInMS: 1262307600.5 });
  for (const player of [cloud, now, late]) {
    await stage.hears(player, { command: 'sessionUpdate', sessionData: { endTimeInMS: 1262307600.5 } });
  }

  stage.chapter('wrong keys and wrong types are refused, all of them named, and nobody hears of it');
  await stage.isRefused(
    late, 'updatePlayer', { name: 7, nick: 'late', score: 1 },
    'INVALID_ARGUMENT', 'INVALID_FIELDS', ['write.set["name"]', 'write.set["nick"]', 'write.set["score"]'],
  );
  await stage.isRefused(
    late, 'updateSessionData', { endTimeInMS: 'never', mapName: 'castle' },
    'INVALID_ARGUMENT', 'INVALID_FIELDS', ['set["endTimeInMS"]', 'set["mapName"]'],
  );
  // What everybody hears next is this.
  await stage.does(late, 'updatePlayer', { name: 'LateAgain' });
  for (const player of [cloud, now, late]) {
    await stage.hears(player, of('playerUpdate', late, { name: 'LateAgain' }));
  }

  stage.chapter('one session at a time');
  await stage.isRefused(late, 'createSession', FORMAT, 'FAILED_PRECONDITION', 'ALREADY_IN_SESSION');
  await stage.does(other, 'createSession', FORMAT);
  await stage.hears(other, join(other, FORMAT));
  await stage.isRefused(late, 'joinSession', other.sessionID, 'FAILED_PRECONDITION', 'ALREADY_IN_SESSION');
  await stage.does(other, 'leaveSession');
  await stage.hears(other, { command: 'sessionLeave' });

  stage.chapter('a new format resets the data of everybody');
  await stage.does(now, 'updateSession', OTHER_FORMAT);
  for (const player of [cloud, now, late]) {
    await stage.hears(player, { command: 'sessionUpdate', ...OTHER_FORMAT });
  }
  await stage.does(late, 'updatePlayer', { position: { x: 14, y: -27.123 } });
  const moved = { name: '__unset__', position: { x: 14, y: -27.123 } };
  for (const player of [cloud, now, late]) await stage.hears(player, of('playerUpdate', late, moved));
  await stage.isRefused(
    late, 'updatePlayer', { position: { x: 'left', z: 40 } },
    'INVALID_ARGUMENT', 'INVALID_FIELDS', ['write.set["position"]["x"]', 'write.set["position"]["z"]'],
  );

  stage.chapter('a player that joins later finds the new format');
  await stage.does(other, 'joinSession');
  await stage.hears(
    other,
    join(other, OTHER_FORMAT),
    of('playerJoin', cloud, OTHER_FORMAT.playerData),
    of('playerJoin', now, OTHER_FORMAT.playerData),
    of('playerJoin', late, moved),
  );
  for (const player of [cloud, now, late]) {
    await stage.hears(player, of('playerJoin', other, OTHER_FORMAT.playerData));
  }

  stage.chapter('leaving, and a connection that is cut');
  await stage.does(late, 'leaveSession');
  await stage.hears(late, { command: 'sessionLeave' });
  for (const player of [cloud, now, other]) await stage.hears(player, left(late));
  await stage.isRefused(late, 'updatePlayer', { name: 'gone' }, 'FAILED_PRECONDITION', 'NOT_A_MEMBER');
  console.log('  the cable of NowYouSeeMe is cut');
  cable.cut();
  for (const player of [cloud, other]) await stage.hears(player, left(now));
  await stage.hears(now, { command: 'connectionLost' });

  stage.chapter('with the last player the session is gone');
  const { sessionID } = cloud;
  await stage.does(cloud, 'leaveSession');
  await stage.hears(cloud, { command: 'sessionLeave' });
  await stage.hears(other, left(cloud));
  await stage.does(other, 'leaveSession');
  await stage.hears(other, { command: 'sessionLeave' });
  await stage.isRefused(cloud, 'joinSession', sessionID, 'NOT_FOUND', 'SESSION_NOT_FOUND');

  stage.chapter('the server loses the session, as by a restart; each player comes back with one call');
  await stage.does(cloud, 'createSession', FORMAT);
  await stage.hears(cloud, join(cloud, FORMAT));
  await stage.does(other, 'joinSession', cloud.sessionID);
  await stage.hears(other, join(other, FORMAT), of('playerJoin', cloud, FORMAT.playerData));
  await stage.hears(cloud, of('playerJoin', other, FORMAT.playerData));
  console.log('  a backend deletes the session, as the app itself');
  await backend.callAsApp('DeleteSession', { sessionId: cloud.sessionID });
  for (const player of [cloud, other]) await stage.hears(player, { command: 'sessionLost' });
  await stage.does(cloud, 'comeBack', FORMAT);
  await stage.hears(cloud, join(cloud, FORMAT));
  await stage.does(other, 'comeBack', FORMAT);
  await stage.hears(other, join(other, FORMAT), of('playerJoin', cloud, FORMAT.playerData));
  await stage.hears(cloud, of('playerJoin', other, FORMAT.playerData));
  stage.end();
}

function why(error) {
  if (error instanceof Failed) return error.message;
  if (error instanceof Refused) return `${error.code} ${error.reason}: ${error.message}`;
  return error.stack;
}

const backend = new Connection(address, app, access);
try {
  await backend.ready(5000);
} catch {
  console.error(`session server: no server at ${address}; start one: cargo run --release -- serve`);
  process.exit(1);
}

// Whatever happens, it does not take longer than this.
setTimeout(() => {
  console.error('session server: FAILED: it took too long');
  process.exit(1);
}, 50_000).unref();

const stage = new Stage(app, access);
try {
  await play(stage, backend);
  console.log(`session server: ok: ${stage.passed} checks passed`);
  process.exit(0);
} catch (error) {
  console.error(`session server: FAILED: ${why(error)}`);
  process.exit(1);
}
