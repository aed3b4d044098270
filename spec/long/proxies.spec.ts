/** Proxies over a real socket leave nothing behind, over enough operations to reveal a few bytes each. */
import { testProxies } from '../leaks/proxies.js';

testProxies({
  connections: 50_000,
  changes: 10_000,
  restarts: 5000,
  streams: 10_000,
  limitBytes: 20,
  restartLimitBytes: 400,
});
