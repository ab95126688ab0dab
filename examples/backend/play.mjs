// The story of a backend that is cut off, killed, started again and replaced, while a reader in every
// room checks that nobody was shown as disconnected and that no step was lost or made twice. The exit
// code is 1 if anything is not as it should be.

import { Failed, Process, Witness } from './witness.mjs';

const [address = 'localhost:7000', ...asked] = process.argv.slice(2);
const languages = asked.length > 0 ? asked : ['go', 'node'];

// How many steps of everybody are watched before something happens, and after it. A second has 20.
const STEPS = 15;
// A message with a step of everybody has some 8,000 bytes.
const LOST_BYTES = 30_000;
const KICKED = 37;

const app = `backend-${process.pid}-${Date.now()}`;
const witness = new Witness(address, app);
let started = 0;

function start() {
  const language = languages[started % languages.length];
  started += 1;
  return new Process(language, address, app, witness);
}

function chapter(title) {
  console.log(`\n${title}`);
}

async function isCutOff(backend) {
  chapter('its connection loses what it sends, and breaks: it comes back and sends that again');
  await witness.steps(STEPS);
  let again;
  do {
    // A stream that just took over from another one has lost nothing.
    backend.cable.loses(LOST_BYTES);
    [, again] = await backend.says(/goes on with \d+ users .* sends (\d+) messages again/);
  } while (again === '0');
  await witness.steps(STEPS);
}

async function play() {
  chapter('a backend starts: 500 users in 10 rooms, on one stream');
  const first = await start().starts();
  await first.says(/attaches 500 users in 10 rooms/);
  await witness.watches();
  await isCutOff(first);

  chapter('one user is kicked; the others go on');
  await witness.kicks(KICKED);
  await first.says(new RegExp(`runner-${KICKED} ended: END_REASON_KICKED`));
  await witness.steps(STEPS);

  chapter('it is killed and started again, which the others in the rooms do not see');
  await first.isKilled();
  const second = await start().starts();
  await second.says(/takes over 499 users/);
  await witness.steps(STEPS);
  await isCutOff(second);

  chapter('the next process starts before this one is stopped, and takes over');
  const third = await start().starts();
  await third.says(/takes over 499 users/);
  await second.ends();
  await witness.steps(STEPS);
  await witness.asks();

  chapter('it is told to stop');
  const [, steps] = await third.isTold(/everybody leaves after (\d+) steps/);
  await third.ends();
  await witness.ends(Number(steps));
}

// Whatever happens, it does not take longer than this.
const timer = setTimeout(() => witness.fail('it took too long'), 120_000);
try {
  await Promise.race([play(), witness.failed]);
  console.log(`\nbackend: ok: ${witness.updates} updates came one by one, and no other`);
} catch (error) {
  console.error(`backend: FAILED: ${error instanceof Failed ? error.message : error.stack}`);
  process.exitCode = 1;
}
clearTimeout(timer);
witness.close();
