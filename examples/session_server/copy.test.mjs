// Replays the test vectors: each step of updates has to lead to the state that the core has.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { Copy } from './copy.mjs';
import { decoded, encoded } from './wire.mjs';

const vectors = new URL('../../proto/testdata/', import.meta.url);
const files = readdirSync(vectors).filter((file) => file.endsWith('.json'));
assert.ok(files.length > 10);

for (const file of files) {
  test(file, () => {
    const copy = new Copy();
    for (const { about, resumed, updates, state } of JSON.parse(readFileSync(new URL(file, vectors))).steps) {
      if (resumed) copy.resume();
      for (const { binary } of updates) copy.take(decoded('SessionUpdate', Buffer.from(binary, 'base64')));
      assert.deepEqual(told(copy), expected(state), about);
    }
  });
}

function told({ revision, state: { session, data, privateData, members } }) {
  const { sessionId, hostId, ownerId, settings: { capacity, hostprops } } = session;
  return {
    revision, sessionId, hostId, ownerId, capacity, hostprops, data, privateData,
    members: [...members].map(([userId, member]) => ({ userId, ...member })),
  };
}

function expected({ revision, session, data, privateData, members }) {
  const { sessionId, hostId, ownerId, settings: { capacity, hostprops = [] } } = session;
  return {
    revision: Number(revision), sessionId, hostId, ownerId, capacity, hostprops,
    data: values(data), privateData: values(privateData),
    members: members.map(({ userId, role, disconnected, joinOrder, props }) => ({
      userId, role, disconnected, joinOrder: Number(joinOrder), props: values(props),
    })),
  };
}

/** Values in JSON as the loader has them. */
function values(json) {
  return Object.fromEntries(
    Object.entries(json).map(([key, value]) => [key, decoded('Value', encoded('Value', value))]),
  );
}
