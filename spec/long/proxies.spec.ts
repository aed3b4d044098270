/** Proxies over a real socket leave nothing behind, over so many operations that a few bytes of each would show. */
import { testProxies } from '../leaks/proxies.js';

testProxies({
  connections: 50_000,
  changes: 10_000,
  restarts: 5000,
  streams: 10_000,
  limitBytes: 20,
  restartLimitBytes: 400,
});
