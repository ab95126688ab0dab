// Ten races of fifty runners. A runner's number is its handle, a race's number that of its view.

export const RACES = 10;
export const RUNNERS_PER_RACE = 50;

export const userId = (runner) => `runner-${runner}`;
export const sessionId = (race) => `race-${race}`;
export const raceOf = (runner) => Math.floor((runner - 1) / RUNNERS_PER_RACE) + 1;

/**
 * How far a runner gets with a step, in metres. All numbers here are exact in a double, so that a
 * reader can tell a step that is missing or that was made twice.
 */
export const stride = (runner) => 1 + (runner % 16) / 16;

/** Where a runner is: so many metres along the track, and beside its middle. */
export const at = (x) => ({ x, y: (x % 8) - 4 });

/** A world has the places of runners, by their numbers. Here everybody stands at the start. */
export function everybody() {
  return new Map(Array.from({ length: RACES * RUNNERS_PER_RACE }, (_, index) => [index + 1, at(0)]));
}

export function step(world) {
  for (const [runner, { x }] of world) world.set(runner, at(x + stride(runner)));
}

/** How many steps everybody has made. */
export function stepsOf(world) {
  for (const [runner, { x }] of world) return x / stride(runner);
  return 0;
}

/** The races that have runners. */
export const racesOf = (world) => [...new Set([...world.keys()].map(raceOf))];

const X = 1;
const Y = 2;

/** The names of the props in blocks. */
export const NAMES = { props: [{ number: X, name: 'x' }, { number: Y, name: 'y' }] };

/**
 * The places of all runners: one block, with a row for each runner and a column for each prop. None if
 * there is no runner.
 */
export function blocks(world) {
  if (world.size === 0) return [];
  const rows = [...world].sort(([one], [other]) => one - other);
  const columns = [
    { prop: X, numbers: rows.map(([, { x }]) => x) },
    { prop: Y, numbers: rows.map(([, { y }]) => y) },
  ];
  return [{ runs: runs(rows.map(([runner]) => runner)), columns }];
}

/** Rising numbers as pairs of a gap and a length: [1, 500] are 1 to 500. */
function runs(rising) {
  const pairs = [];
  let next = 0;
  for (const number of rising) {
    if (pairs.length === 0 || number !== next) pairs.push(number - next, 0);
    pairs[pairs.length - 1] += 1;
    next = number + 1;
  }
  return pairs;
}
