/** Sessions in memory leave nothing behind: the quick version of spec/long/sessions.spec.ts. */
import { testSessions } from './sessions.js';

testSessions({ opens: 20_000, pings: 20_000, restarts: 500, limitBytes: 32, restartLimitBytes: 1500 });
