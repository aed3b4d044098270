/** Proxies over a real socket leave nothing behind: the quick version of spec/long/proxies.spec.ts. */
import { testProxies } from './proxies.js';

testProxies({
  connections: 400,
  changes: 400,
  restarts: 60,
  streams: 1500,
  limitBytes: 3000,
  restartLimitBytes: 10_000,
});
