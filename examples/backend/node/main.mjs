// A backend that drives the users of many sessions over one Gateway stream. It runs until it gets
// SIGINT or SIGTERM, or until another process of the same gateway_id takes over. The exit code is not
// 0 if anything is not as it should be.

import { Backend, TakenOver } from './backend.mjs';
import { say } from './figures.mjs';

const [address = 'localhost:7000', app = 'backend'] = process.argv.slice(2);
const backend = new Backend(address, app);
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => backend.stop());
try {
  await backend.run();
} catch (error) {
  if (!(error instanceof TakenOver)) {
    console.error('node: FAILED:', error);
    process.exit(1);
  }
  say(error.message);
}
backend.figures.print(backend.world.size);
