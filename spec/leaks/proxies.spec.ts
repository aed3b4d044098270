/** Proxies over a real socket leave nothing behind: the quick version of spec/long/proxies.spec.ts. */
import { testProxies } from './proxies.js';

testProxies({
  connections: 600,
  changes: 1000,
  restarts: 60,
  streams: 2000,
  limitBytes: 3000,
  restartLimitBytes: 10_000,
});
