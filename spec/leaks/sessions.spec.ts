/** Sessions in memory leave nothing behind: the quick version of spec/long/sessions.spec.ts. */
import { testSessions } from './sessions.js';

testSessions({ opens: 8000, pings: 8000, restarts: 200, limitBytes: 64, restartLimitBytes: 3000 });
