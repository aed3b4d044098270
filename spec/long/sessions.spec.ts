/** Sessions in memory leave nothing behind, over enough operations to reveal a few bytes each. */
import { testSessions } from '../leaks/sessions.js';

testSessions({ opens: 1_000_000, pings: 1_000_000, restarts: 100_000, limitBytes: 1, restartLimitBytes: 8 });
